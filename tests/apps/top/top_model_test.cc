#include "apps/top/top_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace oxmem::apps {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

const Instant kBegin = Instant() + Duration::Seconds(100);

Json File(const std::string& name, uint64_t reads, uint64_t writes, const char* buckets = "[]") {
  Json part;
  part["kind"] = "file";
  part["name"] = name;
  part["facts"]["dax"] = "direct";
  part["counters"] = {{"reads", reads},           {"read_bytes", reads * 4096},
                      {"writes", writes},         {"write_bytes", writes * 512},
                      {"failures", reads / 2},    {"in_flight", 3},
                      {"channel_resends", writes}};
  part["read_latency"]["count"] = 1;
  part["read_latency"]["buckets_ns"] = Json::parse(buckets);
  return part;
}

Json Mount(std::vector<Json> parts, int pid = 7) {
  Json process;
  process["pid"] = pid;
  process["command"] = "mount";
  process["name"] = "/mnt/a";
  process["parts"] = std::move(parts);
  return process;
}

TEST(TopModel, TheFirstReadingHasLevelsButNoRates) {
  TopModel model;
  const std::vector<TopRow> rows = model.Update({Mount({File("/mnt/a/data", 10, 20)})}, kBegin);
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_EQ(rows[0].name, "mount /mnt/a");
  EXPECT_EQ(rows[1].name, "data");
  EXPECT_EQ(rows[1].indent, 1);
  EXPECT_EQ(rows[1].mode, "direct");
  EXPECT_EQ(rows[1].in_flight, 3u);
  EXPECT_FALSE(rows[0].rates.has_value());
  EXPECT_FALSE(rows[1].rates.has_value());
  EXPECT_FALSE(rows[1].latencies.has_value());
}

TEST(TopModel, RatesArePerSecondOfTheTimeBetweenTwoReadings) {
  TopModel model;
  model.Update({Mount({File("/mnt/a/data", 10, 20)})}, kBegin);
  const auto rows =
      model.Update({Mount({File("/mnt/a/data", 30, 26)})}, kBegin + Duration::Milliseconds(2000));
  ASSERT_THAT(rows, SizeIs(2));
  ASSERT_TRUE(rows[1].rates.has_value());
  EXPECT_DOUBLE_EQ(rows[1].rates->reads, 10);
  EXPECT_DOUBLE_EQ(rows[1].rates->read_bytes, 40960);
  EXPECT_DOUBLE_EQ(rows[1].rates->writes, 3);
  EXPECT_DOUBLE_EQ(rows[1].rates->write_bytes, 1536);
  EXPECT_DOUBLE_EQ(rows[1].rates->resends, 3);
  EXPECT_DOUBLE_EQ(rows[1].rates->failures, 5);
}

TEST(TopModel, AProcessIsTheSumOfItsParts) {
  TopModel model;
  const auto reading = [](uint64_t more) {
    Json whole = File("/mnt/a", 1000 + more, 0);
    whole["kind"] = "mount";  // the mount's own sums do not count twice
    Json region;
    region["kind"] = "region";
    region["name"] = "data";
    region["counters"]["size_bytes"] = 1;
    return Mount(
        {whole, File("/mnt/a/data", 10 + more, 20), File("/mnt/a/other", 5, 2 + more), region});
  };
  model.Update({reading(0)}, kBegin);
  const auto rows = model.Update({reading(8)}, kBegin + Duration::Seconds(1));
  ASSERT_THAT(rows, SizeIs(3));
  EXPECT_DOUBLE_EQ(rows[0].rates->reads, 8);
  EXPECT_DOUBLE_EQ(rows[0].rates->writes, 8);
  EXPECT_EQ(rows[0].in_flight, 6u);
  EXPECT_DOUBLE_EQ(rows[1].rates->reads, 8);
  EXPECT_DOUBLE_EQ(rows[2].rates->reads, 0);
}

TEST(TopModel, PercentilesAreThoseOfTheIntervalAlone) {
  TopModel model;
  model.Update({Mount({File("/mnt/a/data", 1, 0, "[[1000,5],[9000,100]]")})}, kBegin);
  const auto rows =
      model.Update({Mount({File("/mnt/a/data", 2, 0, "[[1000,103],[9000,100],[50000,2]]")})},
                   kBegin + Duration::Seconds(1));
  ASSERT_TRUE(rows[1].latencies.has_value());
  EXPECT_EQ(rows[1].latencies->p50_ns, 1000u);
  EXPECT_EQ(rows[1].latencies->p99_ns, 50000u);
  ASSERT_TRUE(rows[0].latencies.has_value());
  EXPECT_EQ(rows[0].latencies->p50_ns, 1000u);
  const auto idle =
      model.Update({Mount({File("/mnt/a/data", 2, 0, "[[1000,103],[9000,100],[50000,2]]")})},
                   kBegin + Duration::Seconds(2));
  EXPECT_FALSE(idle[1].latencies.has_value());
  EXPECT_DOUBLE_EQ(idle[1].rates->reads, 0);
}

TEST(TopModel, APartThatBeganAnewHasNoRates) {
  TopModel model;
  model.Update({Mount({File("/mnt/a/data", 100, 100)})}, kBegin);
  auto rows = model.Update({Mount({File("/mnt/a/data", 5, 100)})}, kBegin + Duration::Seconds(1));
  EXPECT_FALSE(rows[1].rates.has_value());
  EXPECT_FALSE(rows[0].rates.has_value());
  rows = model.Update({Mount({File("/mnt/a/data", 6, 101)}, 8)}, kBegin + Duration::Seconds(2));
  EXPECT_FALSE(rows[1].rates.has_value());
  rows = model.Update({Mount({File("/mnt/a/data", 7, 101)}, 8)}, kBegin + Duration::Seconds(3));
  EXPECT_DOUBLE_EQ(rows[1].rates->reads, 1);
}

TEST(TopModel, WhatIsNotAsExpectedCountsAsNothing) {
  TopModel model;
  for (const char* text :
       {"[]", "{}", R"({"parts":1})", R"({"parts":[1,{"counters":2},{"counters":{"reads":"x"}}]})",
        R"({"parts":[{"kind":"file","name":"\u001b[2J","counters":{"reads":1},
            "a":{"buckets_ns":[1,[2],["a","b"],[3,-4],[5,6]]}}]})"}) {
    for (int i = 0; i < 2; ++i) {
      const auto rows = model.Update({Json::parse(text)}, kBegin + Duration::Seconds(i));
      for (const TopRow& row : rows) EXPECT_EQ(row.name.find('\x1b'), std::string::npos);
    }
  }
  EXPECT_THAT(model.Update({}, kBegin + Duration::Seconds(9)), IsEmpty());
}

}  // namespace
}  // namespace oxmem::apps
