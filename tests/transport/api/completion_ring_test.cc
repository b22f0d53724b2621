#include "transport/api/completion_ring.h"

#include <array>

#include "gtest/gtest.h"

namespace oxmem::transport {
namespace {

TEST(CompletionRing, HandsOutInOrderInPiecesOfAnySize) {
  CompletionRing ring(3);
  uint64_t pushed = 0;
  uint64_t popped = 0;
  for (int lap = 0; lap < 20; ++lap) {
    while (!ring.full()) ring.Push({.cookie = pushed++});
    std::array<Completion, 2> out;
    const std::size_t count = ring.Pop(std::span(out).first(static_cast<std::size_t>(lap % 3)));
    EXPECT_EQ(count, static_cast<std::size_t>(lap % 3));
    for (std::size_t i = 0; i < count; ++i) EXPECT_EQ(out[i].cookie, popped++);
  }
  while (!ring.full()) ring.Push({.cookie = pushed++});
  std::array<Completion, 8> rest;
  EXPECT_EQ(ring.Pop(rest), 3u);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(rest[i].cookie, popped++);
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.Pop(rest), 0u);
}

TEST(CompletionRingDeathTest, OverflowStopsTheProgram) {
  CompletionRing ring(1);
  ring.Push({});
  EXPECT_DEATH(ring.Push({}), "does not hold");
}

}  // namespace
}  // namespace oxmem::transport
