#include "rdma/nex/region_table.h"

#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include <array>
#include <atomic>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kAll =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND;

class RegionTableTest : public testing::Test {
 protected:
  std::mt19937 random_{5};
  RegionTable table_{1024, [this] { return static_cast<std::uint32_t>(random_()); }};
  std::array<std::byte, 4096> memory_{};

  bool Pins(RegionQuery query) {
    const auto pinned = table_.Pin(query);
    if (pinned.region != nullptr) RegionTable::Unpin(pinned.region);
    return pinned.region != nullptr;
  }
};

TEST_F(RegionTableTest, EveryCheckCounts) {
  Region* region = table_.Add(1, memory_.data(), 0x1000, 4096, IBV_ACCESS_REMOTE_READ);
  RegionQuery good{.use = RegionUse::kRemote,
                   .key = region->key,
                   .address = 0x1000,
                   .length = 4096,
                   .access = IBV_ACCESS_REMOTE_READ,
                   .domain = 1};
  EXPECT_TRUE(Pins(good));
  auto bad = good;
  bad.domain = 2;
  EXPECT_FALSE(Pins(bad));
  bad = good;
  bad.access = IBV_ACCESS_REMOTE_WRITE;
  EXPECT_FALSE(Pins(bad));
  bad = good;
  bad.address = 0x1001;
  EXPECT_FALSE(Pins(bad));
  bad = good;
  bad.address = ~std::uint64_t{0};
  bad.length = 2;
  EXPECT_FALSE(Pins(bad));
  bad = good;
  bad.key ^= 1;
  EXPECT_FALSE(Pins(bad));
}

TEST_F(RegionTableTest, KeysAreRandomAndGoneAfterRemoval) {
  std::vector<Region*> regions;
  std::set<std::uint32_t> keys;
  for (int i = 0; i < 1024; ++i) {
    regions.push_back(table_.Add(1, memory_.data(), 0, 16, kAll));
    ASSERT_NE(nullptr, regions.back());
    keys.insert(regions.back()->key >> 8);
  }
  EXPECT_EQ(1024u, keys.size());
  EXPECT_EQ(nullptr, table_.Add(1, memory_.data(), 0, 16, kAll));
  for (std::size_t i = 0; i < regions.size(); i += 2) {
    const std::uint32_t key = regions[i]->key;
    ASSERT_TRUE(table_.Remove(regions[i]));
    EXPECT_FALSE(Pins({.key = key, .length = 1, .domain = 1}));
  }
  for (std::size_t i = 1; i < regions.size(); i += 2) {
    EXPECT_TRUE(Pins({.key = regions[i]->key, .length = 1, .domain = 1}));
  }
}

TEST_F(RegionTableTest, WindowsNarrowTheirRegionAndCanBeInvalidated) {
  Region* region = table_.Add(1, memory_.data(), 0x1000, 4096, kAll);
  std::uint32_t key = 0;
  Region* window = table_.AddWindow(1, &key);
  ASSERT_NE(nullptr, window);
  RegionTable::WindowBinding binding;
  binding.parent = region;
  binding.address = 0x1100;
  binding.length = 256;
  binding.access = IBV_ACCESS_REMOTE_WRITE;
  binding.qpn = 7;
  ASSERT_TRUE(table_.BindWindow(window, binding, key));
  const RegionQuery query{.use = RegionUse::kRemote,
                          .key = key,
                          .address = 0x1100,
                          .length = 256,
                          .access = IBV_ACCESS_REMOTE_WRITE,
                          .domain = 1,
                          .qpn = 7};
  EXPECT_TRUE(Pins(query));
  auto bad = query;
  bad.qpn = 8;
  EXPECT_FALSE(Pins(bad));
  bad = query;
  bad.use = RegionUse::kLocal;
  EXPECT_FALSE(Pins(bad));
  bad = query;
  bad.length = 257;
  EXPECT_FALSE(Pins(bad));
  EXPECT_FALSE(table_.Remove(region));  // a window is bound to it
  EXPECT_FALSE(table_.Invalidate(key, 1, 8));
  EXPECT_FALSE(table_.Invalidate(region->key, 1, 7));
  EXPECT_TRUE(table_.Invalidate(key, 1, 7));
  EXPECT_FALSE(Pins(query));
  binding.length = 5000;
  EXPECT_FALSE(table_.BindWindow(window, binding, key));
  table_.RemoveWindow(window);
  EXPECT_TRUE(table_.Remove(region));
}

TEST_F(RegionTableTest, RemovalWaitsForPins) {
  Region* region = table_.Add(1, memory_.data(), 0, 16, kAll);
  const auto pinned = table_.Pin({.key = region->key, .length = 1, .domain = 1});
  ASSERT_NE(nullptr, pinned.region);
  std::atomic<bool> removed{false};
  std::thread remover([&] {
    table_.Remove(region);
    removed = true;
  });
  while (region->key.load() != 0) std::this_thread::yield();
  EXPECT_FALSE(removed);
  RegionTable::Unpin(pinned.region);
  remover.join();
  EXPECT_TRUE(removed);
}

}  // namespace
}  // namespace oxmem::nex
