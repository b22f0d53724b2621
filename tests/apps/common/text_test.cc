#include "apps/common/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/common/cli.h"

namespace oxmem::apps {
namespace {

TEST(Text, LatenciesHaveThreeDigitsAndAUnit) {
  EXPECT_EQ(FormatLatency(870), "870 ns");
  EXPECT_EQ(FormatLatency(7423), "7.42 us");
  EXPECT_EQ(FormatLatency(99970), "100 us");
  EXPECT_EQ(FormatLatency(999900), "1.00 ms");
  EXPECT_EQ(FormatLatency(2.04e9), "2.04 s");
}

TEST(Text, CountsAndThroughput) {
  EXPECT_EQ(FormatCount(12), "12");
  EXPECT_EQ(FormatCount(152300), "152 k");
  EXPECT_EQ(FormatThroughput(1.234e9), "1.23 GB/s");
}

TEST(Text, AChartHasALineForEachPowerOfTwoInUse) {
  Histogram histogram;
  for (int i = 0; i < 40; ++i) histogram.Record(Duration::Nanoseconds(5000));
  histogram.Record(Duration::Nanoseconds(20000));
  const std::string chart = LatencyChart(histogram);
  EXPECT_EQ(chart,
            "  <  8.19 us         40 ########################################\n"
            "  <  16.4 us          0 \n"
            "  <  32.8 us          1 #\n");
}

TEST(Text, FactsAreAligned) {
  EXPECT_EQ(FactsText({{"size", "8G"}, {"protocol", "1.1"}}), "size      8G\nprotocol  1.1\n");
}

TEST(Cli, AWrongWordIsExitCode2AndAFailureIs1) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(Fail("oxmem info", absl::InvalidArgumentError("no\nsuch")), kExitWrongUsage);
  EXPECT_EQ(Fail("oxmem info", absl::NotFoundError("gone")), kExitFailed);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "oxmem info: no\\x0asuch\noxmem info: gone\n");
}

}  // namespace
}  // namespace oxmem::apps
