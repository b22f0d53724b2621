#include "transport/base/duration_text.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace oxmem {
namespace {

TEST(ParseDuration, TakesEveryUnit) {
  EXPECT_EQ(*ParseDuration("7ns"), Duration::Nanoseconds(7));
  EXPECT_EQ(*ParseDuration("50us"), Duration::Microseconds(50));
  EXPECT_EQ(*ParseDuration("200ms"), Duration::Milliseconds(200));
  EXPECT_EQ(*ParseDuration("5s"), Duration::Seconds(5));
  EXPECT_EQ(*ParseDuration("2min"), Duration::Seconds(120));
  EXPECT_EQ(*ParseDuration("1h"), Duration::Seconds(3600));
  EXPECT_EQ(*ParseDuration("0"), Duration());
  EXPECT_EQ(*ParseDuration("0s"), Duration());
}

TEST(ParseDuration, RefusesWhatIsNotATimeAndQuotesIt) {
  for (const char* text : {"", "5", "s", "-1s", "+1s", "1.5s", "5 s", "5S", "5m", "5ss", " 5s"}) {
    const auto duration = ParseDuration(text);
    ASSERT_FALSE(duration.ok()) << text;
    EXPECT_THAT(std::string(duration.status().message()),
                testing::HasSubstr(std::string("\"") + text + "\" is not a time"));
  }
}

// A time from now on must still be one, on a clock that runs since the machine started.
TEST(ParseDuration, RefusesWhatIsLongerThanAnyClockGoesOn) {
  for (const char* text : {"9223372036854775808ns", "9223372036854775807ns", "9223372037s",
                           "3153600000001ms", "876001h", "2562048h"}) {
    const auto duration = ParseDuration(text);
    ASSERT_FALSE(duration.ok()) << text;
    EXPECT_THAT(std::string(duration.status().message()), testing::HasSubstr("100 years"));
  }
  EXPECT_EQ(*ParseDuration("876000h"), Duration::Seconds(int64_t{876000} * 3600));
}

TEST(FormatDuration, IsReadBackExactly) {
  for (const int64_t ns : {int64_t{0}, int64_t{1}, int64_t{1500}, int64_t{1000000},
                           int64_t{90} * 1000000000, int64_t{3153600000} * 1000000000}) {
    const Duration duration = Duration::Nanoseconds(ns);
    EXPECT_EQ(*ParseDuration(FormatDuration(duration)), duration);
  }
  EXPECT_EQ(FormatDuration(Duration::Milliseconds(1500)), "1500ms");
  EXPECT_EQ(FormatDuration(Duration::Seconds(120)), "2min");
}

}  // namespace
}  // namespace oxmem
