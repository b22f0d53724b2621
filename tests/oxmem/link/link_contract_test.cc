// What every link must do, whatever carries its frames.

#include <poll.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <ostream>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "oxmem/link/link.h"
#include "tests/oxmem/link/link_setup.h"
#include "tests/support/net_namespace.h"
#include "transport/base/clock.h"

namespace oxmem::link {

void PrintTo(const LinkKind& kind, std::ostream* out) { *out << kind.name; }

namespace {

using Frame = std::vector<std::byte>;
constexpr std::size_t kSmallestFrame = 56;

// Every frame of a seed and length differs from those of other seeds in every second byte or so.
Frame MakeFrame(std::size_t length, uint32_t seed) {
  Frame frame(length);
  uint32_t state = seed * 2654435761u + 1;
  for (std::byte& byte : frame) {
    state = state * 1664525u + 1013904223u;
    byte = static_cast<std::byte>(state >> 24);
  }
  return frame;
}

bool Readable(const Link& link, Duration limit) {
  pollfd one = {link.fd(), POLLIN, 0};
  return poll(&one, 1, static_cast<int>(limit.nanoseconds() / 1000000)) > 0;
}

constexpr Duration kSoon = Duration::Seconds(5);

class LinkContract : public testing::TestWithParam<LinkKind> {
 protected:
  void SetUp() override {
    if (const std::string why = GetParam().why_not(); !why.empty()) GTEST_SKIP() << why;
    auto setup = GetParam().make();
    ASSERT_TRUE(setup.ok()) << setup.status();
    setup_ = *std::move(setup);
  }

  Link& near() { return setup_->near(); }
  Link& far() { return setup_->far(); }

  absl::Status SendTo(Link& from, const Address& to, const std::vector<Frame>& frames) {
    std::vector<OutgoingFrame> out;
    out.reserve(frames.size());
    for (const Frame& frame : frames) out.push_back({to, frame});
    return from.Send(out);
  }

  // Copies of what arrives until there are `count` frames or nothing came for long.
  std::vector<Frame> Collect(Link& link, std::size_t count) {
    std::vector<Frame> result;
    std::array<IncomingFrame, 32> frames;
    while (result.size() < count && Readable(link, kSoon)) {
      const std::size_t received = link.Receive(frames);
      for (std::size_t i = 0; i < received; ++i) {
        result.emplace_back(frames[i].bytes.begin(), frames[i].bytes.end());
      }
    }
    return result;
  }

  std::unique_ptr<LinkSetup> setup_;
};

TEST_P(LinkContract, FramesOfEveryLengthArriveWholeAndNameTheirSender) {
  std::vector<std::size_t> lengths = {kSmallestFrame, kSmallestFrame + 8, 512, 1048};
  lengths.push_back(near().max_frame_bytes() - 8);
  lengths.push_back(near().max_frame_bytes());
  for (const std::size_t length : lengths) {
    const Frame frame = MakeFrame(length, static_cast<uint32_t>(length));
    ASSERT_TRUE(SendTo(near(), far().local_address(), {frame}).ok());
    ASSERT_TRUE(Readable(far(), kSoon)) << length;
    std::array<IncomingFrame, 4> in;
    ASSERT_EQ(far().Receive(in), 1u);
    EXPECT_TRUE(std::ranges::equal(in[0].bytes, frame)) << length;
    EXPECT_EQ(in[0].from, near().local_address());

    ASSERT_TRUE(SendTo(far(), in[0].from, {frame}).ok());
    EXPECT_TRUE(Collect(near(), 1) == std::vector<Frame>{frame});
  }
}

TEST_P(LinkContract, ABatchArrivesInItsOrder) {
  std::vector<Frame> frames;
  for (uint32_t i = 0; i < 150; ++i) frames.push_back(MakeFrame(kSmallestFrame + i % 5 * 8, i));
  ASSERT_TRUE(SendTo(near(), far().local_address(), frames).ok());
  EXPECT_TRUE(Collect(far(), frames.size()) == frames);
}

TEST_P(LinkContract, ReceiveTakesNoMoreThanThereIsRoomFor) {
  std::vector<Frame> frames;
  for (uint32_t i = 0; i < 7; ++i) frames.push_back(MakeFrame(100, i));
  ASSERT_TRUE(SendTo(near(), far().local_address(), frames).ok());
  std::vector<Frame> result;
  std::array<IncomingFrame, 3> in;
  while (result.size() < frames.size() && Readable(far(), kSoon)) {
    const std::size_t count = far().Receive(in);
    ASSERT_LE(count, in.size());
    for (std::size_t i = 0; i < count; ++i) {
      result.emplace_back(in[i].bytes.begin(), in[i].bytes.end());
    }
  }
  EXPECT_TRUE(result == frames);
}

TEST_P(LinkContract, ReceivedBytesStayUntilTheNextReceive) {
  const std::vector<Frame> first = {MakeFrame(200, 1), MakeFrame(300, 2)};
  ASSERT_TRUE(SendTo(near(), far().local_address(), first).ok());
  std::array<IncomingFrame, 8> in;
  ASSERT_TRUE(Readable(far(), kSoon));
  const std::size_t count = far().Receive(in);
  ASSERT_GE(count, 1u);
  std::vector<Frame> later;
  for (uint32_t i = 0; i < 100; ++i) later.push_back(MakeFrame(300, 100 + i));
  ASSERT_TRUE(SendTo(near(), far().local_address(), later).ok());
  for (std::size_t i = 0; i < count; ++i) EXPECT_TRUE(std::ranges::equal(in[i].bytes, first[i]));
}

TEST_P(LinkContract, TheDescriptorIsReadableExactlyWhileFramesWait) {
  std::array<IncomingFrame, 8> in;
  for (uint32_t round = 0; round < 3; ++round) {
    EXPECT_FALSE(Readable(far(), Duration()));
    ASSERT_TRUE(SendTo(near(), far().local_address(), {MakeFrame(100, round)}).ok());
    EXPECT_TRUE(Readable(far(), kSoon));
    EXPECT_TRUE(Readable(far(), Duration()));
    EXPECT_EQ(far().Receive(in), 1u);
    EXPECT_EQ(far().Receive(in), 0u);
  }
  EXPECT_FALSE(Readable(far(), Duration()));
}

TEST_P(LinkContract, AFrameThatIsTooLongIsRefusedAndTheOthersAreSent) {
  const std::size_t most = near().max_frame_bytes();
  const Frame good = MakeFrame(100, 1);
  const Frame long_one = MakeFrame(most + 1, 2);
  const Frame last = MakeFrame(most, 3);
  const absl::Status status = SendTo(near(), far().local_address(), {good, long_one, last});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr(std::to_string(most + 1)));
  EXPECT_TRUE((Collect(far(), 2) == std::vector<Frame>{good, last}));
  EXPECT_EQ(near().stats().send_drops.value(), 1u);
  EXPECT_EQ(near().stats().frames_sent.value(), 2u);
  EXPECT_TRUE(near().health().ok());
}

TEST_P(LinkContract, FramesForOthersAreNotSeen) {
  ASSERT_TRUE(SendTo(near(), setup_->nobody(), {MakeFrame(100, 1)}).ok());
  ASSERT_TRUE(SendTo(near(), far().local_address(), {MakeFrame(100, 2)}).ok());
  EXPECT_TRUE(Collect(far(), 1) == std::vector<Frame>{MakeFrame(100, 2)});
  std::array<IncomingFrame, 1> in;
  EXPECT_EQ(far().Receive(in), 0u);
  EXPECT_FALSE(Readable(far(), Duration()));
}

TEST_P(LinkContract, CountsFramesAndBytesOnBothSides) {
  const std::vector<Frame> frames = {MakeFrame(100, 1), MakeFrame(300, 2)};
  ASSERT_TRUE(SendTo(near(), far().local_address(), frames).ok());
  ASSERT_TRUE(Collect(far(), 2) == frames);
  EXPECT_EQ(near().stats().frames_sent.value(), 2u);
  EXPECT_EQ(near().stats().bytes_sent.value(), 400u);
  EXPECT_EQ(near().stats().send_drops.value(), 0u);
  EXPECT_EQ(far().stats().frames_received.value(), 2u);
  EXPECT_EQ(far().stats().bytes_received.value(), 400u);
  EXPECT_EQ(far().stats().receive_drops.value(), 0u);
}

TEST_P(LinkContract, WhatTheReceiverWasTooSlowForIsCounted) {
  constexpr uint64_t kFrames = 60000;
  const Frame frame = MakeFrame(1000, 1);
  std::vector<OutgoingFrame> out(100, {far().local_address(), frame});
  for (uint64_t sent = 0; sent < kFrames; sent += out.size()) ASSERT_TRUE(near().Send(out).ok());
  ASSERT_EQ(near().stats().frames_sent.value() + near().stats().send_drops.value(), kFrames);
  std::array<IncomingFrame, 64> in;
  uint64_t received = 0;
  while (Readable(far(), Duration())) received += far().Receive(in);
  received += far().Receive(in);
  EXPECT_GT(received, 0u);
  EXPECT_LT(received, kFrames);
  EXPECT_EQ(far().stats().frames_received.value(), received);
  EXPECT_EQ(received + far().stats().receive_drops.value(), near().stats().frames_sent.value());
}

TEST_P(LinkContract, ALinkThatGoesDownSaysSoAndHeals) {
  if (!setup_->can_switch()) GTEST_SKIP() << "this medium cannot be switched off";
  std::array<IncomingFrame, 8> in;
  for (uint32_t round = 0; round < 2; ++round) {
    setup_->Switch(false);
    const absl::Status sent = SendTo(near(), far().local_address(), {MakeFrame(100, 1)});
    EXPECT_EQ(sent.code(), absl::StatusCode::kUnavailable) << sent;
    EXPECT_THAT(std::string(sent.message()), testing::HasSubstr(near().name()));
    EXPECT_EQ(near().health().code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(near().Receive(in), 0u);
    EXPECT_EQ(far().Receive(in), 0u);

    setup_->Switch(true);
    EXPECT_TRUE(near().health().ok()) << near().health();
    EXPECT_TRUE(SendTo(near(), far().local_address(), {MakeFrame(100, 2)}).ok());
    EXPECT_TRUE(Collect(far(), 1) == std::vector<Frame>{MakeFrame(100, 2)});
    EXPECT_TRUE(SendTo(far(), near().local_address(), {MakeFrame(100, 3)}).ok());
    EXPECT_TRUE(Collect(near(), 1) == std::vector<Frame>{MakeFrame(100, 3)});
  }
}

TEST_P(LinkContract, HasANameAndAnAddressForPeople) {
  EXPECT_FALSE(near().name().empty());
  EXPECT_FALSE(near().FormatAddress(far().local_address()).empty());
  EXPECT_NE(near().local_address(), far().local_address());
}

std::string Always() { return ""; }

INSTANTIATE_TEST_SUITE_P(
    Links, LinkContract,
    testing::Values(LinkKind{"Memory", MakeMemorySetup, Always},
                    LinkKind{"Packet", MakePacketSetup, test::WhyNoNetNamespaces},
                    LinkKind{"PacketRing", MakePacketRingSetup, test::WhyNoNetNamespaces},
                    LinkKind{"PacketRingLong", MakePacketRingLongSetup, test::WhyNoNetNamespaces},
                    LinkKind{"Udp", MakeUdpSetup, test::WhyNoNetNamespaces},
                    LinkKind{"UdpLoopback", MakeUdpLoopbackSetup, WhyNoIpv6}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace oxmem::link
