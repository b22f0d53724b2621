#include "transport/base/clock.h"

#include <limits>

#include "gtest/gtest.h"

namespace oxmem {
namespace {

TEST(Duration, UnitsAndArithmeticAgree) {
  EXPECT_EQ(Duration::Seconds(2), Duration::Milliseconds(2000));
  EXPECT_EQ(Duration::Milliseconds(1), Duration::Microseconds(1000));
  EXPECT_EQ(Duration::Microseconds(1), Duration::Nanoseconds(1000));
  EXPECT_EQ(Duration::Seconds(1) + Duration::Seconds(2), Duration::Seconds(3));
  EXPECT_EQ(Duration::Seconds(1) - Duration::Seconds(2), Duration::Seconds(-1));
  EXPECT_EQ(Duration::Seconds(3) * 2, Duration::Seconds(6));
  EXPECT_EQ(Duration::Seconds(3) / 2, Duration::Milliseconds(1500));
  EXPECT_LT(Duration(), Duration::Nanoseconds(1));
  EXPECT_DOUBLE_EQ(Duration::Milliseconds(1500).seconds(), 1.5);
}

TEST(Instant, NeverStaysNeverAndIsLast) {
  EXPECT_TRUE((Instant::Never() + Duration::Seconds(1)).is_never());
  EXPECT_TRUE((Instant::Never() - Duration::Seconds(1)).is_never());
  EXPECT_GT(Instant::Never(), Now() + Duration::Seconds(1000000));
  EXPECT_FALSE(Now().is_never());
}

TEST(Instant, DifferencesAreDurations) {
  const Instant start = Instant::FromNanoseconds(1000);
  EXPECT_EQ((start + Duration::Nanoseconds(5)) - start, Duration::Nanoseconds(5));
  EXPECT_EQ(start - Duration::Nanoseconds(1000), Instant());
}

TEST(Now, NeverGoesBack) {
  Instant last = Now();
  for (int i = 0; i < 1000; ++i) {
    const Instant now = Now();
    ASSERT_GE(now, last);
    last = now;
  }
}

TEST(PollTimeoutMs, RoundsUpSoThatNobodyWakesTooEarly) {
  const Instant now = Instant::FromNanoseconds(5000000);
  EXPECT_EQ(PollTimeoutMs(now, Instant::Never()), -1);
  EXPECT_EQ(PollTimeoutMs(now, now), 0);
  EXPECT_EQ(PollTimeoutMs(now, Instant()), 0);
  EXPECT_EQ(PollTimeoutMs(now, now + Duration::Nanoseconds(1)), 1);
  EXPECT_EQ(PollTimeoutMs(now, now + Duration::Milliseconds(1)), 1);
  EXPECT_EQ(PollTimeoutMs(now, now + Duration::Microseconds(1001)), 2);
  EXPECT_EQ(PollTimeoutMs(now, now + Duration::Seconds(1 << 30)), std::numeric_limits<int>::max());
}

}  // namespace
}  // namespace oxmem
