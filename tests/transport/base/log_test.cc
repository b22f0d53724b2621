#include "transport/base/log.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace oxmem {
namespace {

TEST(LogLimiter, LetsOneThroughPerIntervalAndCountsTheRest) {
  LogLimiter limiter(Duration::Seconds(1));
  Instant now = Instant::FromNanoseconds(5);
  uint64_t suppressed = 99;
  EXPECT_TRUE(limiter.Allow(now, &suppressed));
  EXPECT_EQ(suppressed, 0u);
  for (int i = 0; i < 3; ++i) {
    suppressed = 99;
    EXPECT_FALSE(limiter.Allow(now + Duration::Milliseconds(999), &suppressed));
    EXPECT_EQ(suppressed, 99u) << "untouched when nothing is logged";
  }
  now = now + Duration::Seconds(1);
  EXPECT_TRUE(limiter.Allow(now, &suppressed));
  EXPECT_EQ(suppressed, 3u);
  now = now + Duration::Seconds(100);
  EXPECT_TRUE(limiter.Allow(now, &suppressed));
  EXPECT_EQ(suppressed, 0u);
}

TEST(SetUpLogging, TakesEveryLevelAndNoOther) {
  for (const char* level : {"error", "warning", "info", "debug", "trace"}) {
    EXPECT_TRUE(SetUpLogging(level).ok()) << level;
  }
  for (const char* level : {"", "off", "critical", "loud", "INFO"}) {
    const absl::Status status = SetUpLogging(level);
    ASSERT_FALSE(status.ok()) << level;
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr(std::string("\"") + level + "\" is not one of error, warning"));
  }
}

TEST(SetUpLogging, LinesGoToStderrFromTheLevelOn) {
  ASSERT_TRUE(SetUpLogging("warning").ok());
  testing::internal::CaptureStderr();
  ASSERT_TRUE(SetUpLogging("warning").ok());
  spdlog::info("not seen");
  spdlog::warn("seen {}", 42);
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, testing::HasSubstr("seen 42"));
  EXPECT_THAT(text, testing::HasSubstr("warning"));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("not seen")));
}

}  // namespace
}  // namespace oxmem
