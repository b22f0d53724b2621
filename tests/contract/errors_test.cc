// What a channel says to requests that cannot work, and when its peer goes away; and that its
// statistics add up.

#include <algorithm>
#include <array>
#include <set>

#include "tests/contract/contract_test.h"

namespace oxmem::transport {
namespace {

class Errors : public ChannelContract {
 protected:
  Code CodeOf(const Request& request) {
    const Completion completion = RunOne(request);
    if (completion.code != Code::kOk) {
      EXPECT_EQ(completion.bytes, 0u);
    }
    return completion.code;
  }
};

TEST_P(Errors, RangesOutsideTheRegionAreRefusedAndNothingWraps) {
  std::vector<std::byte> buffer(Length(4096), std::byte{0x5a});
  const uint64_t length = buffer.size();
  const uint64_t alignment = channel().limits().alignment_bytes;
  const uint64_t top = ~uint64_t{0} / alignment * alignment;
  std::vector<Op> ops = {Op::kRead, Op::kWrite};
  if (channel().limits().zero) ops.push_back(Op::kZero);
  if (channel().limits().prefetch) ops.push_back(Op::kPrefetch);
  for (const Op op : ops) {
    for (const uint64_t offset : {size(), size() - length + alignment, size() + (1 << 20), top,
                                  top - length + alignment, uint64_t{1} << 63}) {
      EXPECT_EQ(CodeOf({.op = op, .offset = offset, .length = length, .buffer = buffer.data()}),
                Code::kOutOfRange)
          << static_cast<int>(op) << " at " << offset;
    }
    EXPECT_EQ(CodeOf({.op = op, .offset = 0, .length = top, .buffer = buffer.data()}),
              Code::kOutOfRange);
  }
  if (channel().limits().atomics.Has(AtomicOp::kAdd)) {
    EXPECT_EQ(CodeOf({.op = Op::kAtomic, .offset = size(), .length = 8}), Code::kOutOfRange);
    EXPECT_EQ(CodeOf({.op = Op::kAtomic, .offset = ~uint64_t{7}, .length = 8}), Code::kOutOfRange);
  }
  EXPECT_EQ(Read(size() - length, length), std::vector<std::byte>(length));
}

TEST_P(Errors, MalformedRequestsAreInvalid) {
  std::vector<std::byte> buffer(4096);
  const Limits& limits = channel().limits();
  EXPECT_EQ(CodeOf({.op = Op::kRead, .length = Length(1)}), Code::kInvalid) << "no buffer";
  EXPECT_EQ(CodeOf({.op = Op::kWrite, .length = Length(1)}), Code::kInvalid) << "no buffer";
  if (limits.alignment_bytes > 1) {
    EXPECT_EQ(CodeOf({.op = Op::kRead, .offset = 1, .length = Length(1), .buffer = buffer.data()}),
              Code::kInvalid);
    EXPECT_EQ(CodeOf({.op = Op::kRead, .length = 1, .buffer = buffer.data()}), Code::kInvalid);
  }
  if (limits.atomics.Has(AtomicOp::kAdd)) {
    for (const uint64_t length : {0, 1, 2, 3, 5, 7, 16}) {
      EXPECT_EQ(CodeOf({.op = Op::kAtomic, .length = length}), Code::kInvalid) << length;
    }
    for (const uint64_t offset : {1, 2, 4, 7, 12}) {
      EXPECT_EQ(CodeOf({.op = Op::kAtomic, .offset = offset, .length = 8}), Code::kInvalid);
    }
    EXPECT_EQ(CodeOf({.op = Op::kAtomic, .offset = 2, .length = 4}), Code::kInvalid);
  }
  if (limits.largest_request_bytes < size()) {
    std::vector<std::byte> large(limits.largest_request_bytes + limits.alignment_bytes);
    EXPECT_EQ(CodeOf({.op = Op::kRead, .length = large.size(), .buffer = large.data()}),
              Code::kInvalid);
  }
}

TEST_P(Errors, WhatTheChannelHasNotIsUnsupported) {
  const Limits& limits = channel().limits();
  for (int number = 0; number < kAtomicOpCount; ++number) {
    const auto op = static_cast<AtomicOp>(number);
    if (limits.atomics.Has(op)) continue;
    EXPECT_EQ(CodeOf({.op = Op::kAtomic, .atomic_op = op, .length = 8}), Code::kUnsupported);
  }
  if (!limits.zero) {
    EXPECT_EQ(CodeOf({.op = Op::kZero, .length = 64}), Code::kUnsupported);
  }
  if (!limits.prefetch) {
    EXPECT_EQ(CodeOf({.op = Op::kPrefetch, .length = 64}), Code::kUnsupported);
  }
  Write(0, RandomBytes(Length(8)));  // and what it has goes on working
}

TEST_P(Errors, AReadOnlyRegionIsReadAndNothingElse) {
  Open({.read_only = true});
  if (IsSkipped()) return;
  const Limits& limits = channel().limits();
  ASSERT_TRUE(limits.read_only);
  std::vector<std::byte> buffer(Length(64), std::byte{1});
  EXPECT_EQ(CodeOf({.op = Op::kWrite, .length = buffer.size(), .buffer = buffer.data()}),
            Code::kReadOnly);
  if (limits.zero) {
    EXPECT_EQ(CodeOf({.op = Op::kZero, .length = buffer.size()}), Code::kReadOnly);
  }
  if (limits.atomics.Has(AtomicOp::kAdd)) {
    EXPECT_EQ(CodeOf({.op = Op::kAtomic, .length = 8, .operand = 1}), Code::kReadOnly);
  }
  EXPECT_EQ(CodeOf({.op = Op::kFlush}), Code::kOk);
  EXPECT_EQ(Read(0, buffer.size()), std::vector<std::byte>(buffer.size()));
}

TEST_P(Errors, ALengthOfZeroWorksAtOnceWhereverItLies) {
  for (const uint64_t offset : {uint64_t{0}, size()}) {
    EXPECT_EQ(CodeOf({.op = Op::kRead, .offset = offset}), Code::kOk);
    EXPECT_EQ(CodeOf({.op = Op::kWrite, .offset = offset}), Code::kOk);
    if (channel().limits().zero) {
      EXPECT_EQ(CodeOf({.op = Op::kZero, .offset = offset}), Code::kOk);
    }
    if (channel().limits().prefetch) {
      EXPECT_EQ(CodeOf({.op = Op::kPrefetch, .offset = offset}), Code::kOk);
    }
  }
  const uint64_t past = size() + channel().limits().alignment_bytes;
  EXPECT_EQ(CodeOf({.op = Op::kRead, .offset = past}), Code::kOutOfRange);
}

TEST_P(Errors, FailuresAmongOthersHitOnlyTheirOwnRequest) {
  std::vector<std::byte> buffer(Length(128));
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 60; ++i) {
    requests.push_back({.op = Op::kWrite,
                        .offset = i % 3 == 1 ? size() : i * buffer.size(),
                        .length = buffer.size(),
                        .buffer = i % 3 == 2 ? nullptr : buffer.data(),
                        .cookie = i});
  }
  for (const Completion& completion : RunAll(requests)) {
    const Code expected = completion.cookie % 3 == 0   ? Code::kOk
                          : completion.cookie % 3 == 1 ? Code::kOutOfRange
                                                       : Code::kInvalid;
    EXPECT_EQ(completion.code, expected) << completion.cookie;
  }
}

TEST_P(Errors, StatisticsAddUp) {
  std::vector<Request> requests = Reads(90, 1000);
  const uint64_t length = requests[0].length;
  for (uint64_t i = 0; i < 90; ++i) {
    if (i % 3 != 0) requests[i].op = i % 3 == 1 ? Op::kWrite : Op::kFlush;
  }
  for (uint64_t i = 0; i < 7; ++i) {
    requests.push_back({.op = Op::kRead,
                        .offset = size(),
                        .length = 8,
                        .buffer = requests[0].buffer,
                        .cookie = 100 + i});
  }
  RunAll(requests);
  const ChannelStats& stats = channel().stats();
  EXPECT_EQ(stats.reads.value(), 30u);
  EXPECT_EQ(stats.writes.value(), 30u);
  EXPECT_EQ(stats.flushes.value(), 30u);
  EXPECT_EQ(stats.read_bytes.value(), 30 * length);
  EXPECT_EQ(stats.write_bytes.value(), 30 * length);
  EXPECT_EQ(stats.failures.value(), 7u);
  EXPECT_EQ(stats.timeouts.value(), 0u);
  EXPECT_EQ(stats.in_flight.value(), 0u);
  EXPECT_EQ(stats.latency.count(), 90u);
}

TEST_P(Errors, InFlightIsTheNumberAcceptedAndNotPolled) {
  const auto requests = Reads(std::min<uint64_t>(channel().limits().depth, 5), 64);
  std::size_t left = channel().Submit(requests);
  ASSERT_GE(left, 1u);
  while (left > 0) {
    EXPECT_EQ(channel().stats().in_flight.value(), left);
    Completion completion;
    ASSERT_EQ(PollOrSleep({&completion, 1}), 1u);
    --left;
  }
  EXPECT_EQ(channel().stats().in_flight.value(), 0u);
}

TEST_P(Errors, ALostPeerFailsRequestsByTheirDeadlineAndIsFoundAgain) {
  std::vector<std::byte> buffer(Length(4096), std::byte{3});
  Write(0, buffer);
  if (!harness().CutPeer()) GTEST_SKIP() << "this transport has no peer to lose";
  std::vector<Request> requests = Reads(std::min<uint64_t>(channel().limits().depth, 16), 4096);
  for (std::size_t i = 1; i < requests.size(); i += 2) requests[i].op = Op::kFlush;
  const Instant start = Now();
  std::set<uint64_t> seen;
  for (const Completion& completion : RunAll(requests)) {
    EXPECT_TRUE(completion.code == Code::kTimedOut || completion.code == Code::kPeerLost)
        << CodeName(completion.code);
    seen.insert(completion.cookie);
  }
  EXPECT_EQ(seen.size(), requests.size());
  EXPECT_LT((Now() - start).seconds(), harness().request_timeout().seconds() + 2);
  EXPECT_FALSE(channel().health().ok()) << "a lost peer is no secret";
  EXPECT_EQ(channel().stats().in_flight.value(), 0u);

  harness().RestorePeer();
  const Instant give_up = Now() + Duration::Seconds(15);
  Code code = Code::kTimedOut;
  while (code != Code::kOk && Now() < give_up) {
    code = RunOne({.op = Op::kWrite, .length = buffer.size(), .buffer = buffer.data()}).code;
    std::array<Completion, 1> none;
    PollOnce(none);
  }
  EXPECT_EQ(code, Code::kOk) << "the channel did not find its peer again";
  // A mirror has a leg to bring up to date before it calls itself healthy.
  while (!channel().health().ok() && Now() < give_up) {
    RunOne({.op = Op::kRead, .length = buffer.size(), .buffer = buffer.data()});
  }
  EXPECT_TRUE(channel().health().ok()) << channel().health();
  EXPECT_EQ(Read(0, buffer.size()), buffer);
  EXPECT_GE(channel().stats().reconnects.value(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Channels, Errors, testing::ValuesIn(AllTransports()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace oxmem::transport
