#include "rdma/nex/region_table.h"

#include <gtest/gtest.h>
#include <infiniband/verbs.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
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
  binding.parent_key = region->key;
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

// Without that, registering gets slower for as long as a program goes on.
TEST(RegionTable, ItsIndexHoldsWhatIsRegisteredAndNothingElse) {
  constexpr std::size_t kCapacity = 256;
  std::vector<Region> regions(kCapacity);
  std::vector<std::atomic<std::uint32_t>> index(2 * kCapacity);
  std::mt19937 random(7);
  RegionTable table(
      {regions.data(), index.data(), kCapacity},
      [&] { return static_cast<std::uint32_t>(random()); }, nullptr);
  std::deque<Region*> live;
  for (std::size_t round = 0; round < 200 * kCapacity; ++round) {
    if (live.size() == kCapacity || (!live.empty() && random() % 8 == 0)) {
      const std::size_t which = random() % live.size();
      ASSERT_TRUE(table.Remove(live[which]));
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(which));
    } else {
      live.push_back(table.Add(1, nullptr, 0, 16, kAll));
      ASSERT_NE(nullptr, live.back());
    }
  }
  const auto used = std::count_if(index.begin(), index.end(), [](const auto& e) { return e != 0; });
  EXPECT_EQ(static_cast<std::ptrdiff_t>(live.size()), used);
  for (Region* region : live) {
    const auto pinned = table.Pin({.key = region->key, .length = 1, .domain = 1});
    EXPECT_EQ(region, pinned.region);
    if (pinned.region != nullptr) RegionTable::Unpin(pinned.region);
    ASSERT_TRUE(table.Remove(region));
  }
  for (const auto& entry : index) EXPECT_EQ(0u, entry);
}

TEST_F(RegionTableTest, WhatStaysRegisteredIsFoundWhileOthersComeAndGo) {
  std::vector<Region*> stays;
  for (int i = 0; i < 512; ++i) stays.push_back(table_.Add(1, memory_.data(), 0, 16, kAll));
  std::atomic<bool> ended{false};
  std::thread others([&] {
    std::deque<Region*> live;
    while (!ended) {
      if (live.size() == 500) {
        table_.Remove(live.front());
        live.pop_front();
      }
      live.push_back(table_.Add(1, memory_.data(), 0, 16, kAll));
    }
  });
  int missed = 0;
  for (int round = 0; round < 400; ++round) {
    for (const Region* region : stays) {
      if (!Pins({.key = region->key, .length = 1, .domain = 1})) ++missed;
    }
  }
  ended = true;
  others.join();
  EXPECT_EQ(0, missed);
}

TEST(RegionTable, AWindowKeepsItsKeyWhileItIsUnbound) {
  const std::array<std::uint32_t, 3> keys{0x12345600, 0x123456ff, 0x77777700};
  std::size_t next = 0;
  RegionTable table(16, [&] { return keys.at(next++); });
  std::uint32_t key = 0;
  Region* window = table.AddWindow(1, &key);
  EXPECT_EQ(keys[0], key);
  Region* region = table.Add(1, nullptr, 0, 16, kAll);
  ASSERT_NE(nullptr, region);
  EXPECT_EQ(keys[2], region->key);
  table.RemoveWindow(window);
}

TEST(RegionTable, IsFullWhenNoKeyIsLeft) {
  RegionTable table(16, [] { return 0x12345600; });
  ASSERT_NE(nullptr, table.Add(1, nullptr, 0, 16, kAll));
  EXPECT_EQ(nullptr, table.Add(1, nullptr, 0, 16, kAll));
}

TEST_F(RegionTableTest, AWindowOfOneQueuePairIsBoundAgainOnlyAfterItsInvalidation) {
  Region* region = table_.Add(1, memory_.data(), 0x1000, 4096, kAll);
  std::uint32_t key = 0;
  Region* window = table_.AddWindow(1, &key);
  RegionTable::WindowBinding binding{.parent = region,
                                     .parent_key = region->key,
                                     .address = 0x1000,
                                     .length = 16,
                                     .access = IBV_ACCESS_REMOTE_READ,
                                     .qpn = 7};
  ASSERT_TRUE(table_.BindWindow(window, binding, key));
  EXPECT_FALSE(table_.BindWindow(window, binding, key + 1));
  EXPECT_EQ(key, window->key);
  ASSERT_TRUE(table_.Invalidate(key, 1, 7));
  EXPECT_TRUE(table_.BindWindow(window, binding, key + 1));
  binding.qpn = 0;  // one for all
  EXPECT_TRUE(table_.BindWindow(window, binding, key + 2));
  EXPECT_TRUE(table_.BindWindow(window, binding, key + 3));
  table_.RemoveWindow(window);
  EXPECT_TRUE(table_.Remove(region));
}

TEST_F(RegionTableTest, AWindowThatWasRemovedIsNotBound) {
  Region* region = table_.Add(1, memory_.data(), 0x1000, 4096, kAll);
  const RegionTable::WindowBinding binding{.parent = region,
                                           .parent_key = region->key,
                                           .address = 0x1000,
                                           .length = 16,
                                           .access = IBV_ACCESS_REMOTE_READ};
  std::uint32_t key = 0;
  Region* window = table_.AddWindow(1, &key);
  table_.RemoveWindow(window);
  EXPECT_FALSE(table_.BindWindow(window, binding, key));
  // Nor is what has its place now.
  Region* next = table_.Add(1, memory_.data(), 0x2000, 16, kAll);
  ASSERT_EQ(window, next);
  const std::uint32_t next_key = next->key;
  EXPECT_FALSE(table_.BindWindow(window, binding, key));
  EXPECT_FALSE(table_.BindWindow(window, binding, next_key));
  EXPECT_TRUE(Pins({.key = next_key, .address = 0x2000, .length = 16, .domain = 1}));
  ASSERT_TRUE(table_.Remove(next));
  std::uint32_t other_key = 0;
  Region* other = table_.AddWindow(1, &other_key);
  ASSERT_EQ(window, other);
  EXPECT_FALSE(table_.BindWindow(window, binding, key));
  EXPECT_EQ(0u, other->key);
  EXPECT_TRUE(table_.BindWindow(other, binding, other_key));
  table_.RemoveWindow(other);
  EXPECT_TRUE(table_.Remove(region));
}

TEST_F(RegionTableTest, ARegionThatWasRemovedGetsNoWindow) {
  std::uint32_t key = 0;
  Region* window = table_.AddWindow(1, &key);
  Region* region = table_.Add(1, memory_.data(), 0x1000, 4096, kAll);
  RegionTable::WindowBinding binding{.parent = region,
                                     .parent_key = region->key,
                                     .address = 0x1000,
                                     .length = 16,
                                     .access = IBV_ACCESS_REMOTE_READ};
  ASSERT_TRUE(table_.Remove(region));
  EXPECT_FALSE(table_.BindWindow(window, binding, key));
  // Nor does what has its place now, be it a region or another window.
  Region* next = table_.Add(1, memory_.data(), 0x1000, 4096, kAll);
  ASSERT_EQ(region, next);
  EXPECT_FALSE(table_.BindWindow(window, binding, key));
  ASSERT_TRUE(table_.Remove(next));
  std::uint32_t other_key = 0;
  Region* other = table_.AddWindow(1, &other_key);
  ASSERT_EQ(region, other);
  Region* parent = table_.Add(1, memory_.data(), 0x1000, 4096, kAll);
  binding.parent = parent;
  binding.parent_key = parent->key;
  binding.access = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_MW_BIND;
  ASSERT_TRUE(table_.BindWindow(other, binding, other_key));
  binding.parent = other;
  binding.parent_key = other_key;
  EXPECT_FALSE(table_.BindWindow(window, binding, key));
  table_.RemoveWindow(other);
  table_.RemoveWindow(window);
  EXPECT_TRUE(table_.Remove(parent));
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
