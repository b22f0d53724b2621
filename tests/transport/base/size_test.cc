#include "transport/base/size.h"

#include <cstdint>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace oxmem {
namespace {

TEST(ParseSize, TakesSuffixesInEitherCase) {
  EXPECT_EQ(*ParseSize("0"), 0u);
  EXPECT_EQ(*ParseSize("4096"), 4096u);
  EXPECT_EQ(*ParseSize("8K"), 8192u);
  EXPECT_EQ(*ParseSize("8k"), 8192u);
  EXPECT_EQ(*ParseSize("3M"), 3u << 20);
  EXPECT_EQ(*ParseSize("8G"), uint64_t{8} << 30);
  EXPECT_EQ(*ParseSize("1t"), uint64_t{1} << 40);
  EXPECT_EQ(*ParseSize("0x1000"), 4096u);
  EXPECT_EQ(*ParseSize("18446744073709551615"), UINT64_MAX);
}

TEST(ParseSize, RefusesWhatIsNotASizeAndQuotesIt) {
  for (const char* text : {"", "K", "-1", "+1", " 1", "1 ", "1KB", "1.5G", "8GG", "0x", "abc"}) {
    const auto size = ParseSize(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_THAT(std::string(size.status().message()),
                testing::HasSubstr(std::string("\"") + text + "\""));
  }
}

TEST(ParseSize, RefusesWhatIsPastTheLastByte) {
  for (const char* text : {"18446744073709551616", "16777216T", "17179869184G"}) {
    const auto size = ParseSize(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_THAT(std::string(size.status().message()), testing::HasSubstr("past 2^64"));
  }
}

TEST(FormatSize, IsReadBackExactly) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{1024}, uint64_t{4097},
                               uint64_t{1536} << 20, uint64_t{8} << 30, UINT64_MAX}) {
    EXPECT_EQ(*ParseSize(FormatSize(bytes)), bytes);
  }
}

TEST(RangeFits, DoesNotWrap) {
  EXPECT_TRUE(RangeFits(0, 10, 10));
  EXPECT_TRUE(RangeFits(10, 0, 10));
  EXPECT_FALSE(RangeFits(1, 10, 10));
  EXPECT_FALSE(RangeFits(11, 0, 10));
  EXPECT_FALSE(RangeFits(UINT64_MAX, 2, UINT64_MAX));
  EXPECT_FALSE(RangeFits(2, UINT64_MAX, UINT64_MAX));
}

}  // namespace
}  // namespace oxmem
