#include "fs/fuse/idle_spin.h"

#include "gtest/gtest.h"

namespace oxmem::fs {
namespace {

constexpr Duration kSoon = Duration::Microseconds(20);
constexpr Duration kLate = Duration::Milliseconds(1);

int SoonUntilItLooks(IdleSpin& spin) {
  int count = 0;
  while (spin.length() == Duration()) {
    spin.OnWork(kSoon);
    ++count;
  }
  return count;
}

TEST(IdleSpin, DoesNotLookBeforeWorkHasComeSoonSeveralTimes) {
  IdleSpin spin(std::nullopt);
  EXPECT_GT(SoonUntilItLooks(spin), 2);
  EXPECT_EQ(spin.length(), IdleSpin::kLooking);
}

TEST(IdleSpin, OnePauseDoesNotEndTheLookingAndTwoDo) {
  IdleSpin spin(std::nullopt);
  for (int i = 0; i < 1000; ++i) spin.OnWork(kSoon);
  spin.OnWork(kLate);
  EXPECT_EQ(spin.length(), IdleSpin::kLooking);
  spin.OnWork(kLate);
  EXPECT_EQ(spin.length(), Duration());
}

TEST(IdleSpin, LooksInVainNoMoreThanEveryThirdTimeWhateverComes) {
  // The worst that work can do: come late whenever it is looked for.
  IdleSpin spin(std::nullopt);
  int vain = 0;
  for (int i = 0; i < 900; ++i) {
    const bool looks = spin.length() != Duration();
    vain += looks ? 1 : 0;
    spin.OnWork(looks ? kLate : kSoon);
  }
  EXPECT_LE(vain, 300);
}

TEST(IdleSpin, WorkThatAlwaysComesLateIsNeverLookedFor) {
  IdleSpin spin(std::nullopt);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(spin.length(), Duration());
    spin.OnWork(kLate);
  }
}

TEST(IdleSpin, ALengthThatIsGivenStaysWhateverComes) {
  for (const Duration length : {Duration(), Duration::Microseconds(7), Duration::Seconds(100)}) {
    IdleSpin spin(length);
    for (int i = 0; i < 20; ++i) {
      spin.OnWork(i % 3 == 0 ? kLate : kSoon);
      EXPECT_EQ(spin.length(), length);
    }
  }
}

}  // namespace
}  // namespace oxmem::fs
