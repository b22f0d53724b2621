#include "transport/compose/striped_channel.h"

#include <algorithm>
#include <array>
#include <string>

#include "gmock/gmock.h"
#include "tests/transport/compose/leg_fixture.h"
#include "transport/api/blocking.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

struct Stripe {
  Stripe(std::vector<uint64_t> sizes, uint64_t chunk) : legs(sizes.size()) {
    std::vector<std::unique_ptr<Channel>> channels;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      channels.push_back(MakeLeg(legs[i], sizes[i], {.clock = [this] { return now; }}));
    }
    auto made = StripedChannel::Create(std::move(channels), chunk);
    EXPECT_TRUE(made.ok()) << made.status();
    if (made.ok()) channel = *std::move(made);
  }
  uint64_t size() const { return channel->limits().size_bytes; }

  Instant now = Instant::FromNanoseconds(1);
  std::vector<TestLeg> legs;
  std::unique_ptr<StripedChannel> channel;
};

TEST(StripedChannel, ChunksGoRoundTheLegs) {
  Stripe stripe({4096, 4096, 4096}, 512);
  std::vector<std::byte> bytes(3 * 4096);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i / 512 + 1);
  ASSERT_EQ(stripe.size(), bytes.size());
  ASSERT_TRUE(BlockingWrite(*stripe.channel, 0, bytes).ok());
  for (std::size_t chunk = 0; chunk < 24; ++chunk) {
    const auto expected = Filled(512, static_cast<int>(chunk + 1));
    EXPECT_TRUE(stripe.legs[chunk % 3].Holds(chunk / 3 * 512, expected)) << "chunk " << chunk;
  }
}

TEST(StripedChannel, EveryRangeIsCutWithoutGapOrOverlap) {
  Stripe stripe({1024, 1024, 1024}, 128);
  std::vector<std::byte> model(stripe.size());
  int value = 0;
  for (uint64_t offset = 0; offset < stripe.size(); offset += 37) {
    for (const uint64_t length : {1, 127, 128, 129, 500, 3000}) {
      if (offset + length > stripe.size()) continue;
      const auto bytes = Filled(length, ++value);
      ASSERT_TRUE(BlockingWrite(*stripe.channel, offset, bytes).ok());
      std::copy(bytes.begin(), bytes.end(), model.begin() + static_cast<int64_t>(offset));
      std::vector<std::byte> seen(stripe.size());
      ASSERT_TRUE(BlockingRead(*stripe.channel, 0, seen).ok());
      ASSERT_EQ(seen, model) << length << " at " << offset;
    }
  }
}

TEST(StripedChannel, ZeroReachesExactlyItsRangeOnEveryLeg) {
  Stripe stripe({1024, 1024, 1024}, 128);
  for (uint64_t offset = 0; offset < stripe.size(); offset += 53) {
    for (const uint64_t length : {1, 100, 128, 129, 385, 1000}) {
      if (offset + length > stripe.size()) continue;
      std::vector<std::byte> model = Filled(stripe.size(), 0xee);
      ASSERT_TRUE(BlockingWrite(*stripe.channel, 0, model).ok());
      ASSERT_TRUE(BlockingZero(*stripe.channel, offset, length).ok());
      std::fill_n(model.begin() + static_cast<int64_t>(offset), length, std::byte{0});
      std::vector<std::byte> seen(stripe.size());
      ASSERT_TRUE(BlockingRead(*stripe.channel, 0, seen).ok());
      ASSERT_EQ(seen, model) << length << " at " << offset;
    }
  }
}

TEST(StripedChannel, TheSmallestLegDecidesTheSize) {
  EXPECT_EQ(Stripe({5000, 4097, 100000}, 512).size(), 3u * 4096);
}

TEST(StripedChannel, LimitsAreWhatAllLegsCanDo) {
  std::vector<std::unique_ptr<Channel>> legs;
  legs.push_back(std::make_unique<MemoryChannel>(*CreateMemory(4096, HugePages::kNo),
                                                 MemoryChannelOptions{.depth = 3}));
  legs.push_back(std::make_unique<MemoryChannel>(
      *CreateMemory(4096, HugePages::kNo),
      MemoryChannelOptions{.depth = 5, .read_only = true, .persistent = true}));
  const auto stripe = StripedChannel::Create(std::move(legs), 512);
  ASSERT_TRUE(stripe.ok());
  const Limits& limits = (*stripe)->limits();
  EXPECT_EQ(limits.depth, 8u);
  EXPECT_TRUE(limits.read_only);
  EXPECT_FALSE(limits.persistent);
  EXPECT_FALSE(limits.local_memory.has_value()) << "the region is not one piece of memory";
}

TEST(StripedChannel, ALostLegFailsOnlyWhatTouchesItAndInOneTimeout) {
  Stripe stripe({4096, 4096}, 512);
  stripe.legs[1].fault->CutPeer();
  auto bytes = Filled(512, 1);
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 8; ++i) {
    requests.push_back(
        {.op = Op::kWrite, .offset = i * 512, .length = 512, .buffer = bytes.data(), .cookie = i});
  }
  ASSERT_EQ(stripe.channel->Submit(requests), 8u);
  std::array<Completion, 16> completions;
  ASSERT_EQ(stripe.channel->Poll(completions), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(completions[i].cookie % 2, 0u);
    EXPECT_EQ(completions[i].code, Code::kOk);
  }
  EXPECT_EQ(stripe.channel->Poll(completions), 0u);
  EXPECT_EQ(stripe.channel->next_deadline(), stripe.now + Duration::Seconds(5));
  stripe.now = stripe.now + Duration::Seconds(5);
  ASSERT_EQ(stripe.channel->Poll(completions), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(completions[i].code, Code::kTimedOut);
  EXPECT_THAT(std::string(stripe.channel->health().message()), HasSubstr("the peer is lost"));
}

// The leg takes few requests at a time, so most wait before it when it is lost. They must not wait
// one timeout after another.
TEST(StripedChannel, WhatWaitsForALostLegFailsWithIt) {
  Instant now = Instant::FromNanoseconds(1);
  TestLeg slow;
  TestLeg other;
  std::vector<std::unique_ptr<Channel>> legs;
  legs.push_back(MakeLeg(slow, 65536, {.clock = [&now] { return now; }}, {.depth = 2}));
  legs.push_back(MakeLeg(other, 65536, {.clock = [&now] { return now; }}, {.depth = 30}));
  const auto channel = *StripedChannel::Create(std::move(legs), 64);
  slow.fault->CutPeer();
  auto bytes = Filled(1024, 1);
  const std::vector<Request> requests(
      20, Request{.op = Op::kWrite, .length = 1024, .buffer = bytes.data()});
  ASSERT_EQ(channel->Submit(requests), 20u);
  std::array<Completion, 32> completions;
  EXPECT_EQ(channel->Poll(completions), 0u);
  now = now + Duration::Seconds(5);
  std::size_t count = 0;
  for (int i = 0; i < 10; ++i) count += channel->Poll(completions);
  EXPECT_EQ(count, 20u);
}

TEST(StripedChannel, TheFirstErrorOfItsPartsIsTheRequests) {
  TestLeg good;
  TestLeg bad;
  std::vector<std::unique_ptr<Channel>> legs;
  legs.push_back(MakeLeg(good, 4096, {}));
  legs.push_back(MakeLeg(bad, 4096, {.fail = 1, .code = Code::kCorrupt}));
  const auto channel = *StripedChannel::Create(std::move(legs), 512);
  std::vector<std::byte> bytes(2048);
  const Completion completion = transport::Run(
      *channel, {.op = Op::kRead, .length = 2048, .buffer = bytes.data(), .cookie = 9});
  EXPECT_EQ(completion.code, Code::kCorrupt);
  EXPECT_EQ(completion.bytes, 0u);
  EXPECT_EQ(completion.cookie, 9u);
}

TEST(StripedChannel, RefusesAChunkThatDoesNotFit) {
  const auto error = [](uint64_t chunk, uint64_t largest) {
    std::vector<std::unique_ptr<Channel>> legs;
    for (int i = 0; i < 2; ++i) {
      legs.push_back(
          std::make_unique<MemoryChannel>(*CreateMemory(8192, HugePages::kNo),
                                          MemoryChannelOptions{.largest_request_bytes = largest}));
    }
    return std::string(StripedChannel::Create(std::move(legs), chunk).status().message());
  };
  EXPECT_EQ(error(4096, 65536), "");
  EXPECT_THAT(error(0, 65536), HasSubstr("is not a multiple of 8"));
  EXPECT_THAT(error(12, 65536), HasSubstr("chunk of 12 is not a multiple of 8"));
  EXPECT_THAT(error(4096, 2048), HasSubstr("chunk of 4K is more than the legs take (2K)"));
  EXPECT_THAT(error(16384, 65536), HasSubstr("is more than the legs take (8K)"));
}

}  // namespace
}  // namespace oxmem::transport
