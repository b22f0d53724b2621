#include "apps/load/pattern.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace oxmem::apps {
namespace {

std::vector<std::byte> Filled(const BlockPattern& pattern, std::size_t length) {
  std::vector<std::byte> bytes(length);
  FillPattern(pattern, bytes);
  return bytes;
}

TEST(BlockPattern, IsFoundAgainAtAnyLength) {
  for (std::size_t length = 1; length < 40; ++length) {
    const BlockPattern pattern{7, 3, 2};
    EXPECT_FALSE(FindMismatch(pattern, Filled(pattern, length)).has_value()) << length;
  }
}

TEST(BlockPattern, EveryChangedByteIsFoundWhereItIs) {
  const BlockPattern pattern{7, 3, 2};
  for (std::size_t i = 0; i < 29; ++i) {
    std::vector<std::byte> bytes = Filled(pattern, 29);
    bytes[i] ^= std::byte{1};
    EXPECT_EQ(FindMismatch(pattern, bytes), i);
  }
}

TEST(BlockPattern, OtherSeedsBlocksAndGenerationsDifferAtOnce) {
  const std::vector<std::byte> bytes = Filled({7, 3, 2}, 64);
  EXPECT_TRUE(FindMismatch({8, 3, 2}, bytes).has_value());
  EXPECT_TRUE(FindMismatch({7, 4, 2}, bytes).has_value());
  EXPECT_TRUE(FindMismatch({7, 3, 3}, bytes).has_value());
  // A neighbour's words are nowhere in the block, not even shifted.
  const std::vector<std::byte> next = Filled({7, 4, 2}, 64);
  for (std::size_t i = 0; i < 64; i += 8) {
    for (std::size_t j = 0; j < 64; j += 8) {
      EXPECT_FALSE(std::equal(next.begin() + static_cast<long>(i),
                              next.begin() + static_cast<long>(i) + 8,
                              bytes.begin() + static_cast<long>(j)));
    }
  }
}

TEST(Random, BelowStaysBelowAndReachesEverything) {
  Random random(1);
  std::vector<int> seen(5);
  for (int i = 0; i < 1000; ++i) ++seen.at(random.Below(5));
  for (const int count : seen) EXPECT_GT(count, 100);
}

}  // namespace
}  // namespace oxmem::apps
