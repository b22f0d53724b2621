#include "transport/local/memory_ops.h"

#include <array>
#include <cstring>

#include "gtest/gtest.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

struct AtomicCase {
  AtomicOp op;
  uint64_t before;
  uint64_t operand;
  uint64_t compare;
  uint64_t after;
};

// The cell lies between two others, which must not change.
template <typename T>
void ExpectAtomic(const AtomicCase& each) {
  std::array<T, 3> cells = {static_cast<T>(0xa5a5a5a5a5a5a5a5u), static_cast<T>(each.before),
                            static_cast<T>(0x5a5a5a5a5a5a5a5au)};
  const auto neighbours = cells;
  const uint64_t old_value = ExecuteAtomic(each.op, reinterpret_cast<std::byte*>(&cells[1]),
                                           sizeof(T), each.operand, each.compare);
  EXPECT_EQ(old_value, static_cast<T>(each.before)) << static_cast<int>(each.op);
  EXPECT_EQ(cells[1], static_cast<T>(each.after)) << static_cast<int>(each.op);
  EXPECT_EQ(cells[0], neighbours[0]);
  EXPECT_EQ(cells[2], neighbours[2]);
}

constexpr uint64_t kMinusOne = ~uint64_t{0};

TEST(ExecuteAtomic, EveryOperationOnEightBytes) {
  for (const AtomicCase& each : {
           AtomicCase{AtomicOp::kAdd, 40, 2, 0, 42},
           AtomicCase{AtomicOp::kAdd, kMinusOne, 1, 0, 0},
           AtomicCase{AtomicOp::kCompareSwap, 7, 9, 7, 9},
           AtomicCase{AtomicOp::kCompareSwap, 7, 9, 8, 7},
           AtomicCase{AtomicOp::kSwap, 7, 9, 0, 9},
           AtomicCase{AtomicOp::kAnd, 0xff0f, 0x0ff0, 0, 0x0f00},
           AtomicCase{AtomicOp::kOr, 0xf000, 0x000f, 0, 0xf00f},
           AtomicCase{AtomicOp::kXor, 0xff00, 0x0ff0, 0, 0xf0f0},
           AtomicCase{AtomicOp::kMin, 1, kMinusOne, 0, kMinusOne},
           AtomicCase{AtomicOp::kMin, 1, 2, 0, 1},
           AtomicCase{AtomicOp::kMax, 1, kMinusOne, 0, 1},
           AtomicCase{AtomicOp::kMax, kMinusOne, 1, 0, 1},
           AtomicCase{AtomicOp::kMinUnsigned, 1, kMinusOne, 0, 1},
           AtomicCase{AtomicOp::kMinUnsigned, 5, 2, 0, 2},
           AtomicCase{AtomicOp::kMaxUnsigned, 1, kMinusOne, 0, kMinusOne},
           AtomicCase{AtomicOp::kMaxUnsigned, 5, 2, 0, 5},
       }) {
    ExpectAtomic<uint64_t>(each);
  }
}

TEST(ExecuteAtomic, FourBytesIgnoreTheUpperHalfOfTheOperands) {
  constexpr uint64_t kJunk = 0xdead000000000000u;
  for (const AtomicCase& each : {
           AtomicCase{AtomicOp::kAdd, 0xffffffffu, kJunk | 2, 0, 1},
           AtomicCase{AtomicOp::kCompareSwap, 7, kJunk | 9, kJunk | 7, 9},
           AtomicCase{AtomicOp::kSwap, 7, kJunk | 9, 0, 9},
           AtomicCase{AtomicOp::kMin, 1, kJunk | 0xffffffffu, 0, 0xffffffffu},
           AtomicCase{AtomicOp::kMax, 0xffffffffu, kJunk | 1, 0, 1},
           AtomicCase{AtomicOp::kMinUnsigned, 5, kJunk | 2, 0, 2},
           AtomicCase{AtomicOp::kMaxUnsigned, 5, kJunk | 2, 0, 5},
       }) {
    ExpectAtomic<uint32_t>(each);
  }
}

TEST(ExecuteAtomic, AnOldValueOfFourBytesIsZeroExtended) {
  uint32_t cell = 0x80000000u;
  EXPECT_EQ(ExecuteAtomic(AtomicOp::kAdd, reinterpret_cast<std::byte*>(&cell), 4, 1, 0),
            uint64_t{0x80000000u});
}

TEST(Execute, CarriesTheCookieAndTheLength) {
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  std::array<std::byte, 16> buffer{};
  const Completion completion = Execute(
      {.op = Op::kRead, .offset = 8, .length = 16, .buffer = buffer.data(), .cookie = 77}, *memory);
  EXPECT_EQ(completion.cookie, 77u);
  EXPECT_EQ(completion.bytes, 16u);
  EXPECT_EQ(completion.code, Code::kOk);
  EXPECT_EQ(Execute({.op = Op::kFlush, .length = 5}, *memory).bytes, 0u) << "a flush moves nothing";
}

}  // namespace
}  // namespace oxmem::transport
