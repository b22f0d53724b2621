// The delay, rate and fault shims, on a clock that the test moves.

#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "gtest/gtest.h"
#include "tests/transport/compose/leg_fixture.h"
#include "transport/compose/paced_channel.h"

namespace oxmem::transport {
namespace {

class Shims : public testing::Test {
 protected:
  std::unique_ptr<PacedChannel> Paced(PacedOptions options) {
    options.clock = [this] { return now_; };
    return std::make_unique<PacedChannel>(
        std::make_unique<MemoryChannel>(*CreateMemory(1 << 20, HugePages::kNo),
                                        MemoryChannelOptions{.depth = 64}),
        "paced", options);
  }
  std::unique_ptr<FaultChannel> Fault(FaultOptions options) {
    options.clock = [this] { return now_; };
    return std::make_unique<FaultChannel>(
        std::make_unique<MemoryChannel>(*CreateMemory(1 << 20, HugePages::kNo),
                                        MemoryChannelOptions{.depth = 64}),
        options);
  }
  Request ReadOf(uint64_t length, uint64_t cookie = 0) {
    return {.op = Op::kRead, .length = length, .buffer = buffer_.data(), .cookie = cookie};
  }
  // How `count` requests end, one after the other: '.' for kOk, 'x' for anything else.
  std::string Codes(Channel& channel, int count, Op op = Op::kRead) {
    std::string codes;
    for (int i = 0; i < count; ++i) {
      Request request = ReadOf(64);
      request.op = op;
      EXPECT_EQ(channel.Submit({&request, 1}), 1u);
      Completion completion;
      EXPECT_TRUE(PollFor(channel, &completion));
      codes += completion.code == Code::kOk ? '.' : 'x';
    }
    return codes;
  }

  Instant now_ = Instant::FromNanoseconds(1000);
  std::vector<std::byte> buffer_ = std::vector<std::byte>(1 << 20);
};

TEST_F(Shims, ALatencyHoldsEveryCompletionForExactlyThatLong) {
  const auto channel = Paced({.latency = Duration::Microseconds(50)});
  const Request request = ReadOf(64, 5);
  ASSERT_EQ(channel->Submit({&request, 1}), 1u);
  const Instant due = now_ + Duration::Microseconds(50);
  Completion completion;
  EXPECT_EQ(channel->Poll({&completion, 1}), 0u);
  EXPECT_EQ(channel->next_deadline(), due);
  EXPECT_TRUE(channel->Arm()) << "the owner may sleep until the deadline";
  now_ = due - Duration::Nanoseconds(1);
  EXPECT_EQ(channel->Poll({&completion, 1}), 0u);
  now_ = due;
  ASSERT_EQ(channel->Poll({&completion, 1}), 1u);
  EXPECT_EQ(completion.cookie, 5u);
  EXPECT_TRUE(channel->next_deadline().is_never());
  EXPECT_EQ(channel->stats().latency.min_ns(), 50000u);
}

TEST_F(Shims, RequestsInFlightTogetherShareTheLatency) {
  const auto channel = Paced({.latency = Duration::Microseconds(50)});
  const std::vector<Request> requests(10, ReadOf(64));
  ASSERT_EQ(channel->Submit(requests), 10u);
  now_ = now_ + Duration::Microseconds(50);
  std::array<Completion, 16> completions;
  EXPECT_EQ(channel->Poll(completions), 10u);
}

TEST_F(Shims, JitterStaysWithinItsBoundsAndReorders) {
  const auto channel =
      Paced({.latency = Duration::Microseconds(10), .jitter = Duration::Microseconds(100)});
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 64; ++i) requests.push_back(ReadOf(8, i));
  ASSERT_EQ(channel->Submit(requests), 64u);
  const Instant start = now_;
  std::vector<uint64_t> order;
  while (order.size() < 64) {
    Completion completion;
    if (channel->Poll({&completion, 1}) == 1) {
      order.push_back(completion.cookie);
      EXPECT_GE(now_, start + Duration::Microseconds(10));
      EXPECT_LE(now_, start + Duration::Microseconds(110));
      continue;
    }
    ASSERT_GT(channel->next_deadline(), now_);
    now_ = channel->next_deadline();
  }
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(Shims, AFlushIsHeldBackBehindAllBeforeIt) {
  const auto channel = Paced({.jitter = Duration::Milliseconds(1), .seed = 7});
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 32; ++i) requests.push_back(ReadOf(8, i));
  requests.push_back({.op = Op::kFlush, .cookie = 99});
  ASSERT_EQ(channel->Submit(requests), 33u);
  now_ = now_ + Duration::Milliseconds(2);
  std::array<Completion, 64> completions;
  ASSERT_EQ(channel->Poll(completions), 33u);
  EXPECT_EQ(completions[32].cookie, 99u);
}

TEST_F(Shims, ABandwidthPutsRequestsOneAfterTheOther) {
  const auto channel = Paced({.bytes_per_second = 1000000});  // 1 us a byte
  const std::vector<Request> requests(3, ReadOf(1000));
  ASSERT_EQ(channel->Submit(requests), 3u);
  Completion completion;
  const Instant start = now_;
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(channel->Poll({&completion, 1}), 0u);
    now_ = start + Duration::Milliseconds(i);
    EXPECT_EQ(channel->Poll({&completion, 1}), 1u) << i;
  }
  // An idle link saves nothing up.
  now_ = now_ + Duration::Seconds(1);
  ASSERT_EQ(channel->Submit(requests), 3u);
  now_ = now_ + Duration::Milliseconds(2);
  std::array<Completion, 4> completions;
  EXPECT_EQ(channel->Poll(completions), 2u);
}

TEST_F(Shims, ZeroingTakesTheTimeOfAWriteOfZeros) {
  const auto channel = Paced({.bytes_per_second = 1000000});  // 1 us a byte
  const std::array<Request, 2> requests = {Request{.op = Op::kZero, .length = 5000},
                                           Request{.op = Op::kZero, .offset = 8, .length = 1000}};
  ASSERT_EQ(channel->Submit(requests), 2u);
  const Instant start = now_;
  Completion completion;
  now_ = start + Duration::Microseconds(4999);
  EXPECT_EQ(channel->Poll({&completion, 1}), 0u);
  now_ = start + Duration::Microseconds(5000);
  EXPECT_EQ(channel->Poll({&completion, 1}), 1u);
  EXPECT_EQ(completion.code, Code::kOk);
  EXPECT_EQ(channel->next_deadline(), start + Duration::Microseconds(6000));
}

TEST_F(Shims, ARequestRateCountsEveryKindOfRequest) {
  const auto channel = Paced({.requests_per_second = 1000});
  const std::vector<Request> requests(5, Request{.op = Op::kFlush});
  ASSERT_EQ(channel->Submit(requests), 5u);
  now_ = now_ + Duration::Milliseconds(3);
  std::array<Completion, 8> completions;
  EXPECT_EQ(channel->Poll(completions), 3u);
}

TEST_F(Shims, WhatIsRefusedTakesNoTimeOnTheLink) {
  const auto channel = Paced({.bytes_per_second = 1000});
  const Request request = ReadOf(uint64_t{1} << 63);
  ASSERT_EQ(channel->Submit({&request, 1}), 1u);
  Completion completion;
  ASSERT_EQ(channel->Poll({&completion, 1}), 1u);
  EXPECT_EQ(completion.code, Code::kOutOfRange);
}

TEST_F(Shims, CloseReleasesWhatIsHeld) {
  const auto channel = Paced({.latency = Duration::Seconds(100)});
  const Request request = ReadOf(64);
  ASSERT_EQ(channel->Submit({&request, 1}), 1u);
  channel->Close();
  Completion completion;
  EXPECT_EQ(channel->Poll({&completion, 1}), 1u);
}

TEST_F(Shims, AShimHidesMemoryThatCouldBeMapped) {
  EXPECT_FALSE(Paced({})->limits().local_memory.has_value());
  EXPECT_FALSE(Fault({})->limits().local_memory.has_value());
}

TEST_F(Shims, FaultsComeAtTheirRateAndFromTheirSeed) {
  const std::string first = Codes(*Fault({.fail = 0.2, .seed = 1}), 2000);
  EXPECT_EQ(first, Codes(*Fault({.fail = 0.2, .seed = 1}), 2000));
  EXPECT_NE(first, Codes(*Fault({.fail = 0.2, .seed = 2}), 2000));
  const auto failures = std::count(first.begin(), first.end(), 'x');
  EXPECT_GT(failures, 300);
  EXPECT_LT(failures, 500);
}

TEST_F(Shims, SkipAndMostBoundTheFaults) {
  EXPECT_EQ(Codes(*Fault({.fail = 1, .skip = 3, .most = 2}), 8), "...xx...");
}

TEST_F(Shims, AFailedWriteHasNoEffectAndOneFailedAfterwardsHas) {
  for (const bool after : {false, true}) {
    const auto channel = Fault({.fail = after ? 0.0 : 1.0, .fail_after = 1.0, .most = 1});
    buffer_[0] = std::byte{7};
    EXPECT_EQ(Codes(*channel, 1, Op::kWrite), "x");
    buffer_[0] = std::byte{0};
    EXPECT_EQ(Codes(*channel, 1, Op::kRead), ".");
    EXPECT_EQ(buffer_[0], after ? std::byte{7} : std::byte{0});
  }
}

TEST_F(Shims, CorruptionFlipsOneBitAndSaysNothing) {
  const auto channel = Fault({.corrupt = 1});
  EXPECT_EQ(Codes(*channel, 1), ".");
  int bits = 0;
  for (std::size_t i = 0; i < 64; ++i) bits += std::popcount(std::to_integer<unsigned>(buffer_[i]));
  EXPECT_EQ(bits, 1);
  EXPECT_EQ(channel->faults(), 1u);
}

TEST_F(Shims, ShortSubmitsTakeAtLeastOne) {
  const auto channel = Fault({.short_submit = 1});
  const std::vector<Request> requests(4, ReadOf(8));
  EXPECT_EQ(channel->Submit(requests), 1u);
  EXPECT_EQ(channel->Submit(requests), 1u);
}

TEST_F(Shims, ALostPeerTimesOutAndWhatIsLeftIsCarriedOutAfterItsReturn) {
  const auto channel = Fault({.timeout = Duration::Seconds(2)});
  channel->CutPeer();
  EXPECT_FALSE(channel->health().ok());
  Request request = ReadOf(8, 1);
  ASSERT_EQ(channel->Submit({&request, 1}), 1u);
  now_ = now_ + Duration::Seconds(1);
  request.cookie = 2;
  ASSERT_EQ(channel->Submit({&request, 1}), 1u);
  Completion completion;
  EXPECT_EQ(channel->Poll({&completion, 1}), 0u);
  now_ = channel->next_deadline();
  ASSERT_EQ(channel->Poll({&completion, 1}), 1u);
  EXPECT_EQ(completion.cookie, 1u);
  EXPECT_EQ(completion.code, Code::kTimedOut);
  channel->RestorePeer();
  ASSERT_TRUE(PollFor(*channel, &completion));
  EXPECT_EQ(completion.cookie, 2u);
  EXPECT_EQ(completion.code, Code::kOk);
  EXPECT_EQ(channel->stats().reconnects.value(), 1u);
  EXPECT_TRUE(channel->health().ok());
}

TEST_F(Shims, ALossByCountBeginsAndEndsByItself) {
  const auto channel =
      Fault({.cut_after = 2, .cut_for = Duration::Seconds(3), .timeout = Duration::Seconds(1)});
  EXPECT_EQ(Codes(*channel, 2), "..");
  const Request request = ReadOf(8);
  ASSERT_EQ(channel->Submit({&request, 1}), 1u);
  now_ = channel->next_deadline();
  Completion completion;
  ASSERT_EQ(channel->Poll({&completion, 1}), 1u);
  EXPECT_EQ(completion.code, Code::kTimedOut);
  now_ = channel->next_deadline();
  EXPECT_EQ(channel->Poll({&completion, 1}), 0u);
  EXPECT_TRUE(channel->health().ok());
  EXPECT_EQ(Codes(*channel, 3), "...");
}

}  // namespace
}  // namespace oxmem::transport
