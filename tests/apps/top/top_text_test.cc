#include "apps/top/top_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace oxmem::apps {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

TopRow Busy() {
  TopRow row;
  row.name = "data";
  row.indent = 1;
  row.mode = "page-cache";
  row.in_flight = 16;
  row.rates = TopRates{.reads = 48123,
                       .read_bytes = 197e6,
                       .writes = 0.5,
                       .write_bytes = 2048,
                       .resends = 3,
                       .failures = 0};
  row.latencies = TopLatencies{.p50_ns = 21700, .p99_ns = 130000, .p999_ns = 2040000};
  return row;
}

TEST(TopText, ARowIsOneLineOfEightyPlaces) {
  EXPECT_EQ(TopHeading(80),
            "NAME               MODE READ/s   B/s WRIT/s   B/s    P50    P99  FLY RSN/s ERR/s");
  EXPECT_EQ(TopLine(Busy(), 80),
            "  data             page  48.1k  197M   0.50 2.05k 21.7us  130us   16     3     0");
  EXPECT_EQ(TopHeading(80).size(), 80u);
}

TEST(TopText, NoFigureIsTooLongForItsPlace) {
  TopRow row = Busy();
  for (const double rate : {0.0, 0.004, 0.994, 0.996, 9.994, 9.996, 99.94, 99.96, 999.4, 999.6,
                            9995.0, 99950.0, 999500.0, 1e9, 9.9996e11, 1e18}) {
    for (const uint64_t ns : {uint64_t{0}, uint64_t{999}, uint64_t{9996}, uint64_t{999499},
                              uint64_t{999500}, uint64_t{999500000}, uint64_t{1} << 40}) {
      row.rates = TopRates{rate, rate, rate, rate, rate, rate};
      row.latencies = TopLatencies{ns, ns, ns};
      row.in_flight = static_cast<uint64_t>(rate);
      for (const int columns : {20, 80, 99, 100, 200}) {
        EXPECT_EQ(TopLine(row, columns).size(), TopHeading(columns).size())
            << rate << " " << ns << ": " << TopLine(row, columns);
      }
    }
  }
}

TEST(TopText, WhatIsNotKnownIsADash) {
  TopRow row;
  row.name = "mount /mnt/a";
  EXPECT_EQ(TopLine(row, 80),
            "mount /mnt/a                 -     -      -     -      -      -    0     -     -");
}

TEST(TopText, MoreRoomIsForNamesAndAPercentile) {
  TopRow row = Busy();
  row.name = "a-name-that-needs-much-more-room-than-eighty-columns-have";
  EXPECT_THAT(TopLine(row, 80), StartsWith("  ~ty-columns-have "));
  EXPECT_THAT(TopLine(row, 140), StartsWith("  a-name-that-needs-much-more-room-than-eighty-"));
  EXPECT_THAT(TopLine(row, 140), HasSubstr(" 130us 2.04ms "));
  EXPECT_THAT(TopHeading(140), HasSubstr(" P99  P99.9 "));
  EXPECT_EQ(TopLine(row, 140).size(), 140u);
}

TEST(TopText, NamesAreCutBetweenCharacters) {
  EXPECT_EQ(FitName("äöü", 5), "äöü  ");
  EXPECT_EQ(FitName("äöü", 3), "äöü");
  EXPECT_EQ(FitName("äöü", 2), "~ü");
  EXPECT_EQ(FitName("", 2), "  ");
  EXPECT_EQ(FitName("mount /mnt/a/long/path", 14), "mount ~ng/path");
  EXPECT_EQ(FitName("mount /mnt/a/long/path", 9), "~ong/path");
}

TEST(TopText, LatenciesHaveThreeDigits) {
  EXPECT_EQ(ShortLatency(870), "870ns");
  EXPECT_EQ(ShortLatency(7420), "7.42us");
  EXPECT_EQ(ShortLatency(120000), "120us");
  EXPECT_EQ(ShortLatency(1350000), "1.35ms");
  EXPECT_EQ(ShortLatency(2040000000), "2.04s");
}

TEST(TopText, JsonHasWhatIsKnown) {
  EXPECT_EQ(TopJson(TopRow{.name = "a"}).dump(), R"({"name":"a","indent":0,"in_flight":0})");
  const Json busy = TopJson(Busy());
  EXPECT_EQ(busy["mode"], "page-cache");
  EXPECT_EQ(busy["reads_per_second"], 48123.0);
  EXPECT_EQ(busy["p999_us"], 2040.0);
  EXPECT_THAT(busy.dump(), EndsWith("}"));
}

}  // namespace
}  // namespace oxmem::apps
