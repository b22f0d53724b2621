#include "oxmem/node/region_map.h"

#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace oxmem::node {
namespace {

using testing::HasSubstr;

class RegionMapTest : public testing::Test {
 protected:
  Region Make(const std::string& name, uint64_t base, std::size_t size) {
    Region region;
    region.name = name;
    region.base = base;
    region.memory = std::span(memory_).first(size);
    return region;
  }
  std::string Refusal(const Region& region) { return std::string(map_.Add(region).message()); }

  std::vector<std::byte> memory_ = std::vector<std::byte>(64 << 10);
  RegionMap map_;
};

TEST_F(RegionMapTest, FindsTheRegionThatHoldsAllOfARange) {
  ASSERT_TRUE(map_.Add(Make("b", 0x10000, 8192)).ok());
  ASSERT_TRUE(map_.Add(Make("a", 0x1000, 4096)).ok());
  EXPECT_EQ(map_.Find(0x1000, 4096)->name, "a");
  EXPECT_EQ(map_.Find(0x11fff, 1)->name, "b");
  EXPECT_EQ(map_.Find(0x1fff, 1)->name, "a");
  EXPECT_EQ(map_.Find(0x0, 1), nullptr);
  EXPECT_EQ(map_.Find(0x2000, 1), nullptr);
  EXPECT_EQ(map_.Find(0x1800, 4096), nullptr) << "it reaches past the end";
  EXPECT_EQ(map_.Find(UINT64_MAX, 1), nullptr);
  EXPECT_EQ(map_.Find(0x10000, UINT64_MAX), nullptr) << "it wraps";
}

TEST_F(RegionMapTest, ARegionMayEndAtTheLastAddress) {
  ASSERT_TRUE(map_.Add(Make("top", UINT64_MAX - 4095, 4096)).ok());
  EXPECT_EQ(map_.Find(UINT64_MAX, 1)->name, "top");
  EXPECT_EQ(map_.Find(UINT64_MAX, 2), nullptr);
}

TEST_F(RegionMapTest, RefusesWhatCannotBe) {
  ASSERT_TRUE(map_.Add(Make("a", 0x1000, 8192)).ok());
  EXPECT_THAT(Refusal(Make("a", 0x100000, 4096)), HasSubstr("given twice"));
  EXPECT_THAT(Refusal(Make("b", 0x2000, 4096)), HasSubstr("overlaps"));
  EXPECT_THAT(Refusal(Make("c", 0x1001, 4096)), HasSubstr("multiple of"));
  EXPECT_THAT(Refusal(Make("d", UINT64_MAX - 4095, 8192)), HasSubstr("past 2^64"));
  EXPECT_THAT(Refusal(Make("e", 0x100000, 0)), HasSubstr("0 bytes"));
  EXPECT_EQ(map_.regions().size(), 1u);
}

TEST_F(RegionMapTest, NextBaseIsAlignedAndAfterEverything) {
  EXPECT_EQ(map_.NextBase(4096), 0u);
  ASSERT_TRUE(map_.Add(Make("a", 0x1000, 100)).ok());
  EXPECT_EQ(map_.NextBase(4096), 0x2000u);
}

}  // namespace
}  // namespace oxmem::node
