#include "transport/api/validate.h"

#include <array>

#include "gtest/gtest.h"

namespace oxmem::transport {
namespace {

constexpr uint64_t kTop = ~uint64_t{0};

// A region of 1 MiB in blocks of 512, with everything.
Limits AllLimits() {
  Limits limits;
  limits.size_bytes = 1 << 20;
  limits.alignment_bytes = 512;
  limits.largest_request_bytes = 64 << 10;
  limits.depth = 8;
  limits.zero = true;
  limits.prefetch = true;
  limits.atomics = AtomicOps::All();
  return limits;
}

std::array<std::byte, 1> g_byte;

struct Case {
  Op op;
  uint64_t offset;
  uint64_t length;
  Code code;
};

Code CodeOf(const Case& each, const Limits& limits) {
  return Validate(
      {.op = each.op, .offset = each.offset, .length = each.length, .buffer = g_byte.data()},
      limits);
}

TEST(Validate, RangesAndAlignmentsOfEveryRangedOperation) {
  for (const Op op : {Op::kRead, Op::kWrite, Op::kZero, Op::kPrefetch}) {
    for (const Case& each : {
             Case{op, 0, 0, Code::kOk},
             Case{op, 0, 512, Code::kOk},
             Case{op, (1 << 20) - 512, 512, Code::kOk},
             Case{op, 1 << 20, 0, Code::kOk},
             Case{op, 1 << 20, 512, Code::kOutOfRange},
             Case{op, (1 << 20) - 512, 1024, Code::kOutOfRange},
             Case{op, kTop - 511, 512, Code::kOutOfRange},
             Case{op, 512, kTop - 511, Code::kOutOfRange},
             Case{op, kTop, kTop, Code::kOutOfRange},
             Case{op, 1, 512, Code::kInvalid},
             Case{op, 512, 1, Code::kInvalid},
             Case{op, 256, 256, Code::kInvalid},
         }) {
      EXPECT_EQ(CodeOf(each, AllLimits()), each.code)
          << static_cast<int>(op) << " " << each.offset << "+" << each.length;
    }
  }
}

TEST(Validate, TheLargestRequestBoundsTransfersOnly) {
  const uint64_t largest = AllLimits().largest_request_bytes;
  for (const Op op : {Op::kRead, Op::kWrite}) {
    EXPECT_EQ(CodeOf({op, 0, largest}, AllLimits()), Code::kOk);
    EXPECT_EQ(CodeOf({op, 0, largest + 512}, AllLimits()), Code::kInvalid);
  }
  EXPECT_EQ(CodeOf({Op::kZero, 0, 1 << 20}, AllLimits()), Code::kOk);
  EXPECT_EQ(CodeOf({Op::kPrefetch, 0, 1 << 20}, AllLimits()), Code::kOk);
}

TEST(Validate, TransfersNeedABufferUnlessTheyAreEmpty) {
  for (const Op op : {Op::kRead, Op::kWrite}) {
    EXPECT_EQ(Validate({.op = op, .length = 512}, AllLimits()), Code::kInvalid);
    EXPECT_EQ(Validate({.op = op, .length = 0}, AllLimits()), Code::kOk);
  }
  EXPECT_EQ(Validate({.op = Op::kZero, .length = 512}, AllLimits()), Code::kOk);
}

TEST(Validate, AReadOnlyRegionRefusesWhatChangesIt) {
  Limits limits = AllLimits();
  limits.read_only = true;
  EXPECT_EQ(CodeOf({Op::kRead, 0, 512}, limits), Code::kOk);
  EXPECT_EQ(CodeOf({Op::kPrefetch, 0, 512}, limits), Code::kOk);
  EXPECT_EQ(CodeOf({Op::kFlush, 0, 0}, limits), Code::kOk);
  EXPECT_EQ(CodeOf({Op::kWrite, 0, 512}, limits), Code::kReadOnly);
  EXPECT_EQ(CodeOf({Op::kZero, 0, 512}, limits), Code::kReadOnly);
  EXPECT_EQ(CodeOf({Op::kAtomic, 0, 8}, limits), Code::kReadOnly);
}

TEST(Validate, WhatTheChannelHasNotIsUnsupported) {
  Limits limits = AllLimits();
  limits.zero = limits.prefetch = false;
  limits.atomics = AtomicOps().With(AtomicOp::kSwap);
  EXPECT_EQ(CodeOf({Op::kZero, 0, 512}, limits), Code::kUnsupported);
  EXPECT_EQ(CodeOf({Op::kPrefetch, 0, 512}, limits), Code::kUnsupported);
  for (int i = 0; i < kAtomicOpCount; ++i) {
    const auto op = static_cast<AtomicOp>(i);
    EXPECT_EQ(Validate({.op = Op::kAtomic, .atomic_op = op, .length = 8}, limits),
              op == AtomicOp::kSwap ? Code::kOk : Code::kUnsupported);
  }
}

// Atomics have their own alignment, whatever the channel's is.
TEST(Validate, AtomicsAreNaturallyAlignedOperandsOfFourOrEightBytes) {
  for (const Case& each : {
           Case{Op::kAtomic, 0, 8, Code::kOk},
           Case{Op::kAtomic, 8, 8, Code::kOk},
           Case{Op::kAtomic, 4, 4, Code::kOk},
           Case{Op::kAtomic, (1 << 20) - 8, 8, Code::kOk},
           Case{Op::kAtomic, (1 << 20) - 4, 4, Code::kOk},
           Case{Op::kAtomic, 0, 0, Code::kInvalid},
           Case{Op::kAtomic, 0, 1, Code::kInvalid},
           Case{Op::kAtomic, 0, 2, Code::kInvalid},
           Case{Op::kAtomic, 0, 16, Code::kInvalid},
           Case{Op::kAtomic, 4, 8, Code::kInvalid},
           Case{Op::kAtomic, 2, 4, Code::kInvalid},
           Case{Op::kAtomic, 1 << 20, 8, Code::kOutOfRange},
           Case{Op::kAtomic, kTop - 7, 8, Code::kOutOfRange},
       }) {
    EXPECT_EQ(CodeOf(each, AllLimits()), each.code) << each.offset << "+" << each.length;
  }
}

TEST(Validate, AFlushIsAlwaysFine) {
  EXPECT_EQ(Validate({.op = Op::kFlush, .offset = kTop, .length = kTop}, AllLimits()), Code::kOk);
}

TEST(ValidateDeathTest, ANumberThatIsNoOperationStopsTheProgram) {
  EXPECT_DEATH(Validate({.op = static_cast<Op>(99)}, AllLimits()), "internal error");
}

}  // namespace
}  // namespace oxmem::transport
