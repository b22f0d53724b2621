#include "transport/base/lazy_timer.h"

#include <gtest/gtest.h>
#include <poll.h>

#include "transport/base/check.h"

namespace oxmem {
namespace {

LazyTimer Make() {
  auto timer = LazyTimer::Create();
  OXMEM_CHECK(timer.ok());
  return *std::move(timer);
}

bool GoesOffWithin(const LazyTimer& timer, int milliseconds) {
  pollfd entry{.fd = timer.fd(), .events = POLLIN, .revents = 0};
  return poll(&entry, 1, milliseconds) == 1;
}

TEST(LazyTimer, GoesOffAtItsDeadlineAndNotBefore) {
  LazyTimer timer = Make();
  EXPECT_FALSE(GoesOffWithin(timer, 0));
  const Instant deadline = Now() + Duration::Milliseconds(5);
  timer.Set(Now(), deadline);
  EXPECT_TRUE(GoesOffWithin(timer, 10'000));
  EXPECT_GE(Now(), deadline);
}

TEST(LazyTimer, ADeadlineThatHasPassedIsReadableAtOnce) {
  LazyTimer timer = Make();
  timer.Set(Now(), Instant());
  EXPECT_TRUE(GoesOffWithin(timer, 10'000));
}

TEST(LazyTimer, AnEarlierDeadlineIsKept) {
  LazyTimer timer = Make();
  const Instant before = Now();
  timer.Set(before, before + Duration::Seconds(3600));
  timer.Set(before, before + Duration::Milliseconds(1));
  EXPECT_TRUE(GoesOffWithin(timer, 10'000));
}

TEST(LazyTimer, ALaterDeadlineWakesTooEarlyOnceAndThenInTime) {
  LazyTimer timer = Make();
  const Instant before = Now();
  timer.Set(before, before + Duration::Milliseconds(2));
  const Instant later = before + Duration::Milliseconds(40);
  timer.Set(before, later);
  EXPECT_TRUE(GoesOffWithin(timer, 10'000));
  EXPECT_GE(Now(), before + Duration::Milliseconds(2));
  const Instant now = Now();
  timer.Set(now, now + Duration::Milliseconds(40));
  EXPECT_TRUE(GoesOffWithin(timer, 10'000));
  EXPECT_GE(Now(), now + Duration::Milliseconds(40));
}

TEST(LazyTimer, AfterItWentOffNothingIsReadableWithoutADeadline) {
  LazyTimer timer = Make();
  timer.Set(Now(), Now());
  ASSERT_TRUE(GoesOffWithin(timer, 10'000));
  timer.Set(Now(), Instant::Never());
  EXPECT_FALSE(GoesOffWithin(timer, 5));
}

}  // namespace
}  // namespace oxmem
