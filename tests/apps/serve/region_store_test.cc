#include "apps/serve/region_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/apps/common/temporary_directory.h"

namespace oxmem::apps {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<RegionStore> Store(const std::vector<std::string>& texts) {
  std::vector<RegionSpec> specs;
  for (const std::string& text : texts) {
    auto spec = ParseRegionSpec(text);
    EXPECT_TRUE(spec.ok()) << spec.status();
    specs.push_back(*std::move(spec));
  }
  return RegionStore::Create(specs);
}

std::string ErrorOf(const std::vector<std::string>& texts) {
  const auto store = Store(texts);
  return store.ok() ? "" : std::string(store.status().message());
}

TEST(RegionStore, PutsRegionsWithoutABaseBehindTheOthers) {
  const auto store = Store({"a=4K", "b=1M,base=0x40000000", "c=8K,backing=anonymous,ro"});
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(store->Describe(),
            "regions a 4K at 0x0, b 1M at 0x40000000, c 8K at 0x40200000 read-only");
  EXPECT_EQ(store->regions()[1].backing.memory().size(), 1u << 20);
  ASSERT_EQ(store->Parts().size(), 3u);
  EXPECT_EQ(store->Parts()[2].kind, "region");
}

TEST(RegionStore, TheMapLeadsToTheMemory) {
  const auto store = Store({"a=4K,base=0x2000"});
  ASSERT_TRUE(store.ok()) << store.status();
  node::RegionMap map = store->map();
  const node::Region* region = map.Find(0x2000, 4096);
  ASSERT_NE(region, nullptr);
  EXPECT_EQ(region->memory.data(), store->regions()[0].backing.memory().data());
  EXPECT_EQ(map.Find(0x2000, 4097), nullptr);
}

TEST(RegionStore, WhatCannotBeIsRefused) {
  EXPECT_THAT(ErrorOf({"a=4K", "a=8K"}), HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf({"a=4K,base=0x10"}), HasSubstr("not a multiple"));
  EXPECT_THAT(ErrorOf({"a=8K,base=0xfffffffffffff000"}), HasSubstr("past 2^64"));
  EXPECT_THAT(ErrorOf({"a=8K,base=0x1000", "b=4K,base=0x2000"}), HasSubstr("overlaps"));
}

TEST(RegionStore, AWrongRegionBesideAFileLeavesNoFile) {
  const TemporaryDirectory directory;
  const std::string path = directory.path() + "/region";
  EXPECT_NE(ErrorOf({"a=4K,backing=file:" + path, "a=4K"}), "");
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_EQ(ErrorOf({"a=4K,backing=file:" + path}), "");
  EXPECT_EQ(std::filesystem::file_size(path), 4096u);
}

}  // namespace
}  // namespace oxmem::apps
