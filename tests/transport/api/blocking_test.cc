#include "transport/api/blocking.h"

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/base/status.h"
#include "transport/local/memory_channel.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

MemoryChannel SmallChannel(uint64_t size, uint64_t largest, uint32_t depth) {
  return MemoryChannel(*CreateMemory(size, HugePages::kNo),
                       {.name = "mem test", .depth = depth, .largest_request_bytes = largest});
}

std::vector<std::byte> Pattern(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 256);
  return bytes;
}

TEST(Blocking, TransfersAreSplitByTheLargestRequestAndTheDepth) {
  for (const std::size_t length : {0u, 1u, 100u, 101u, 1000u, 12345u}) {
    for (const uint32_t depth : {1u, 3u, 64u}) {
      MemoryChannel channel = SmallChannel(20000, 100, depth);
      const auto bytes = Pattern(length);
      ASSERT_TRUE(BlockingWrite(channel, 77, bytes).ok());
      std::vector<std::byte> seen(length);
      ASSERT_TRUE(BlockingRead(channel, 77, seen).ok());
      EXPECT_EQ(seen, bytes) << length << " at depth " << depth;
      EXPECT_EQ(channel.stats().in_flight.value(), 0u);
      const uint64_t parts = std::max<uint64_t>((length + 99) / 100, 1);
      EXPECT_EQ(channel.stats().writes.value(), parts);
    }
  }
}

TEST(Blocking, AFailureNamesChannelOperationPlaceAndErrno) {
  MemoryChannel channel = SmallChannel(4096, 4096, 4);
  std::vector<std::byte> buffer(4096);
  const absl::Status status = BlockingRead(channel, 4096, buffer);
  EXPECT_EQ(ErrnoOf(status), ENXIO);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("mem test: read of 4K at 0x1000: out of range"));
  channel.Close();
  EXPECT_EQ(ErrnoOf(BlockingFlush(channel)), ESHUTDOWN);
  EXPECT_THAT(std::string(BlockingFlush(channel).message()),
              HasSubstr("mem test: flush: channel closed"));
}

TEST(Blocking, APartThatFailsIsReportedAfterAllHaveEnded) {
  MemoryChannel channel = SmallChannel(1000, 100, 3);
  std::vector<std::byte> buffer(2000);
  const absl::Status status = BlockingWrite(channel, 0, buffer);
  EXPECT_EQ(ErrnoOf(status), ENXIO);
  EXPECT_THAT(std::string(status.message()), HasSubstr("at 0x3e8"));
  EXPECT_EQ(channel.stats().in_flight.value(), 0u);
  EXPECT_LT(channel.stats().failures.value(), 10u) << "no more is sent after a failure";
}

TEST(Blocking, ZeroAndAtomicsGiveTheirResults) {
  MemoryChannel channel = SmallChannel(4096, 4096, 4);
  ASSERT_TRUE(BlockingWrite(channel, 0, Pattern(4096)).ok());
  ASSERT_TRUE(BlockingZero(channel, 0, 8).ok());
  EXPECT_EQ(*BlockingAtomic(channel, AtomicOp::kAdd, 0, 8, 5), 0u);
  EXPECT_EQ(*BlockingAtomic(channel, AtomicOp::kCompareSwap, 0, 8, 9, 5), 5u);
  EXPECT_EQ(*BlockingAtomic(channel, AtomicOp::kAdd, 0, 8, 0), 9u);
  EXPECT_EQ(ErrnoOf(BlockingAtomic(channel, AtomicOp::kAdd, 1, 8, 0).status()), EINVAL);
  EXPECT_EQ(ErrnoOf(BlockingZero(channel, 4096, 1)), ENXIO);
}

TEST(Blocking, PollOrWaitEndsWhenItsTimeIsOver) {
  MemoryChannel channel = SmallChannel(4096, 4096, 4);
  Completion completion;
  const Instant until = Now() + Duration::Milliseconds(3);
  EXPECT_EQ(PollOrWait(channel, {&completion, 1}, until), 0u);
  EXPECT_GE(Now(), until);
}

TEST(Blocking, EveryCodeBecomesAStatusWithItsErrno) {
  const MemoryChannel channel = SmallChannel(4096, 4096, 4);
  for (int code = 0; code < kCodeCount; ++code) {
    const Completion completion{.code = static_cast<Code>(code)};
    const absl::Status status = StatusOfCompletion(channel, {.op = Op::kZero}, completion);
    EXPECT_EQ(status.ok(), code == 0);
    EXPECT_EQ(ErrnoOf(status), ErrnoOfCode(completion.code)) << code;
    if (code != 0) {
      EXPECT_THAT(std::string(status.message()), HasSubstr(CodeName(completion.code)));
    }
  }
  const Completion completion{.code = Code::kFailed, .provider_code = 12};
  EXPECT_THAT(std::string(StatusOfCompletion(channel, {}, completion).message()),
              HasSubstr("transport error (code 12)"));
}

}  // namespace
}  // namespace oxmem::transport
