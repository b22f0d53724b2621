#include "transport/compose/late_channel.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/api/blocking.h"
#include "transport/compose/compose_source.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

constexpr Limits kLimits{.size_bytes = 4096,
                         .largest_request_bytes = 4096,
                         .depth = 4,
                         .atomics = {},
                         .local_memory = {}};

absl::StatusOr<std::unique_ptr<Channel>> Memory(const std::string& size) {
  return OpenMemory(*ParseSource("mem:?size=" + size));
}

// Polls until its channel has been found.
bool Found(LateChannel& channel) {
  const Instant deadline = Now() + Duration::Seconds(30);
  std::array<Completion, 1> none;
  while (channel.stats().reconnects.value() == 0) {
    if (Now() > deadline) return false;
    EXPECT_EQ(channel.Poll(none), 0u);
    pollfd ready{.fd = channel.event_fd(), .events = POLLIN, .revents = 0};
    if (channel.Arm()) poll(&ready, 1, 100);
  }
  return true;
}

TEST(LateChannel, FailsAtOnceUntilItIsThereAndThenCountsAsFoundAgain) {
  std::atomic<bool> there{false};
  auto late = *LateChannel::Create({.name = "late",
                                    .limits = kLimits,
                                    .open = [&]() -> absl::StatusOr<std::unique_ptr<Channel>> {
                                      if (!there) return absl::UnavailableError("not there");
                                      return Memory("4K");
                                    },
                                    .why = absl::UnavailableError("not there"),
                                    .interval = Duration::Milliseconds(1)});
  EXPECT_EQ(transport::Run(*late, {.op = Op::kFlush}).code, Code::kPeerLost);
  EXPECT_THAT(std::string(late->health().message()), HasSubstr("not there"));
  there = true;
  ASSERT_TRUE(Found(*late));
  EXPECT_TRUE(late->health().ok());
  EXPECT_EQ(transport::Run(*late, {.op = Op::kFlush}).code, Code::kOk);
  late->Close();
  EXPECT_EQ(transport::Run(*late, {.op = Op::kFlush}).code, Code::kClosed);
}

TEST(LateChannel, WhatIsSmallerThanBeforeStaysUnused) {
  std::atomic<int> opened{0};
  auto late = *LateChannel::Create({.name = "late",
                                    .limits = kLimits,
                                    .open = [&] { return Memory(++opened < 3 ? "1K" : "8K"); },
                                    .why = absl::UnavailableError("not there"),
                                    .interval = Duration::Milliseconds(1)});
  ASSERT_TRUE(Found(*late));
  EXPECT_GE(opened, 3);
}

// A mirror that goes on without a leg.
class MirrorWithoutALeg : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Channel>> Open(bool with_first) {
    const auto open = [with_first](const Source& leg) -> absl::StatusOr<std::unique_ptr<Channel>> {
      if (leg.path == "first" && !with_first) return absl::UnavailableError("first is not there");
      return Memory("4K");
    };
    return OpenComposed(*ParseSource("mirror:(a:first,a:second)"), open,
                        {.state = state_,
                         .open_later = [](std::size_t) -> absl::StatusOr<std::unique_ptr<Channel>> {
                           return absl::UnavailableError("first is not there");
                         }});
  }
  void GoOn() { state_ = *MirrorState::Adopt(2, UniqueFd(dup(state_->fd()))); }

  std::shared_ptr<MirrorState> state_ = *MirrorState::Create(2);
};

TEST_F(MirrorWithoutALeg, IsRefusedWhenItIsNew) { EXPECT_FALSE(Open(false).ok()); }

TEST_F(MirrorWithoutALeg, GoesOnWithTheOthers) {
  ASSERT_TRUE(Open(true).ok());
  GoOn();
  const auto channel = Open(false);
  ASSERT_TRUE(channel.ok()) << channel.status();
  EXPECT_EQ(state_->in_sync(), 2u);
  const std::vector<std::byte> bytes(10, std::byte{7});
  EXPECT_TRUE(BlockingWrite(**channel, 5, bytes).ok());
  EXPECT_THAT(std::string((*channel)->health().message()), HasSubstr("first is not there"));
}

TEST_F(MirrorWithoutALeg, IsRefusedIfTheOthersAreOut) {
  ASSERT_TRUE(Open(true).ok());
  ASSERT_TRUE(state_->TakeOut(1));
  GoOn();
  EXPECT_THAT(std::string(Open(false).status().message()),
              HasSubstr("no leg that is in sync is there: first is not there"));
}

}  // namespace
}  // namespace oxmem::transport
