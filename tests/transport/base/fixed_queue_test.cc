#include "transport/base/fixed_queue.h"

#include "gtest/gtest.h"

namespace oxmem {
namespace {

TEST(FixedQueue, IsFirstInFirstOutOverManyLaps) {
  FixedQueue<int> queue(3);
  int pushed = 0;
  int popped = 0;
  for (int lap = 0; lap < 10; ++lap) {
    while (queue.size() < 3) queue.Push(pushed++);
    EXPECT_EQ(queue[0], popped);
    EXPECT_EQ(queue[2], popped + 2);
    while (queue.size() > static_cast<std::size_t>(lap % 3)) {
      EXPECT_EQ(queue.front(), popped++);
      queue.Pop();
    }
  }
}

TEST(FixedQueueDeathTest, OverflowAndUnderflowStopTheProgram) {
  FixedQueue<int> queue(1);
  EXPECT_DEATH(queue.Pop(), "does not hold");
  queue.Push(1);
  EXPECT_DEATH(queue.Push(2), "does not hold");
  EXPECT_DEATH(queue[1] = 2, "does not hold");
}

}  // namespace
}  // namespace oxmem
