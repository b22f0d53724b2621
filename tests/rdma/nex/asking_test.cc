#include "rdma/nex/cm/asking.h"

#include <gtest/gtest.h>

#include <vector>

namespace oxmem::nex {
namespace {

using Step = CmAsking::Step;

constexpr Instant kStart = Instant::FromNanoseconds(1000);

std::int64_t MillisecondsOf(Duration duration) { return duration.nanoseconds() / 1000000; }

// When, after the first, questions are asked that nobody answers, and what ends it.
struct Course {
  std::vector<std::int64_t> asked_at_ms;
  std::int64_t over_at_ms = 0;
  Step end = Step::kNothing;
};

// With `refused` the system says of so many questions that nobody is there, at once.
Course CourseOf(int refused) {
  Course course;
  CmAsking asking;
  asking.Start(kStart);
  Instant now = kStart;
  for (;;) {
    const auto at_ms = MillisecondsOf(now - kStart);
    if (refused-- > 0 && asking.OnRefused(now) == Step::kRefused) {
      return {course.asked_at_ms, at_ms, Step::kRefused};
    }
    now = asking.deadline();
    const Step step = asking.OnDeadline(now);
    if (step != Step::kAsk) return {course.asked_at_ms, MillisecondsOf(now - kStart), step};
    course.asked_at_ms.push_back(MillisecondsOf(now - kStart));
  }
}

TEST(CmAsking, IsRepeatedLessAndLessOftenForAMinute) {
  const Course course = CourseOf(0);
  const std::vector<std::int64_t> first{20, 60, 140, 300, 620, 1260, 2260, 3260};
  ASSERT_LT(first.size(), course.asked_at_ms.size());
  EXPECT_EQ(first, std::vector(course.asked_at_ms.begin(), course.asked_at_ms.begin() + 8));
  EXPECT_EQ(60000, course.over_at_ms);
  EXPECT_EQ(Step::kUnanswered, course.end);
  EXPECT_EQ(64u, course.asked_at_ms.size());
}

TEST(CmAsking, IsRefusedForGoodAfterAMoment) {
  const Course course = CourseOf(1000);
  EXPECT_EQ(Step::kRefused, course.end);
  EXPECT_EQ(300, course.over_at_ms);
  EXPECT_EQ(10u, course.asked_at_ms.size());
}

TEST(CmAsking, SilenceAfterARefusalIsRefusalInTime) {
  for (const int refused : {1, 6}) {
    const Course course = CourseOf(refused);
    EXPECT_EQ(Step::kRefused, course.end);
    EXPECT_EQ(33u, course.asked_at_ms.size());
    EXPECT_EQ(34 * 30, course.over_at_ms);
  }
}

TEST(CmAsking, OneQuestionIsRefusedOnce) {
  CmAsking asking;
  asking.Start(kStart);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(Step::kNothing, asking.OnRefused(kStart));
  EXPECT_EQ(kStart + CmAsking::kRefusalPause, asking.deadline());
  // Nor is the next one put off by what is said of this one.
  EXPECT_EQ(Step::kNothing, asking.OnRefused(kStart + Duration::Milliseconds(29)));
  EXPECT_EQ(Step::kAsk, asking.OnDeadline(kStart + CmAsking::kRefusalPause));
}

TEST(CmAsking, AConnectionThatIsMadeTakesItsTimeAndMayBeRefused) {
  CmAsking asking;
  asking.Start(kStart);
  asking.OnAnswered();
  EXPECT_FALSE(asking.asks());
  const Instant later = kStart + Duration::Seconds(100);
  EXPECT_EQ(Step::kNothing, asking.OnDeadline(later));
  EXPECT_EQ(Step::kNothing, asking.OnRefused(later));
  EXPECT_EQ(later + CmAsking::kRefusalPause, asking.deadline());
  EXPECT_EQ(Step::kAsk, asking.OnDeadline(asking.deadline()));
  asking.OnAnswered();
  for (int i = 1; i < CmAsking::kRefusals; ++i) {
    EXPECT_EQ(Step::kNothing, asking.OnRefused(later));
    EXPECT_EQ(Step::kAsk, asking.OnDeadline(asking.deadline()));
    asking.OnAnswered();
  }
  EXPECT_EQ(Step::kRefused, asking.OnRefused(later));
  EXPECT_FALSE(asking.asks());
}

TEST(CmAsking, NothingComesBeforeItsTime) {
  CmAsking asking;
  EXPECT_EQ(Step::kNothing, asking.OnDeadline(kStart));
  asking.Start(kStart);
  EXPECT_EQ(Step::kNothing, asking.OnDeadline(asking.deadline() - Duration::Nanoseconds(1)));
  EXPECT_EQ(Step::kAsk, asking.OnDeadline(asking.deadline()));
}

}  // namespace
}  // namespace oxmem::nex
