#include "transport/runtime/bounded_queue.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace oxmem::transport {
namespace {

TEST(BoundedQueue, RoundsItsCapacityUpAndRefusesWhenFull) {
  BoundedQueue<int> queue(3);
  EXPECT_EQ(queue.capacity(), 4u);
  int values[5] = {0, 1, 2, 3, 4};
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(queue.Push(&values[i]));
  EXPECT_FALSE(queue.Push(&values[4]));
  EXPECT_EQ(queue.Pop(), &values[0]);
  EXPECT_TRUE(queue.Push(&values[4]));
  EXPECT_FALSE(queue.Push(&values[0]));
}

TEST(BoundedQueue, GivesBackInOrderOverManyLaps) {
  BoundedQueue<int> queue(4);
  std::vector<int> values(1000);
  EXPECT_TRUE(queue.Empty());
  EXPECT_EQ(queue.Pop(), nullptr);
  for (std::size_t i = 0; i < values.size(); i += 2) {
    ASSERT_TRUE(queue.Push(&values[i]));
    ASSERT_TRUE(queue.Push(&values[i + 1]));
    EXPECT_FALSE(queue.Empty());
    ASSERT_EQ(queue.Pop(), &values[i]);
    ASSERT_EQ(queue.Pop(), &values[i + 1]);
    EXPECT_TRUE(queue.Empty());
  }
}

TEST(BoundedQueue, TheSmallestHasRoomForTwo) {
  BoundedQueue<int> queue(1);
  int value = 0;
  for (int lap = 0; lap < 5; ++lap) {
    ASSERT_TRUE(queue.Push(&value));
    ASSERT_TRUE(queue.Push(&value));
    ASSERT_FALSE(queue.Push(&value));
    ASSERT_EQ(queue.Pop(), &value);
    ASSERT_EQ(queue.Pop(), &value);
    ASSERT_EQ(queue.Pop(), nullptr);
  }
}

TEST(BoundedQueue, ManySendersLoseNothingAndKeepTheirOrder) {
  struct Item {
    int sender;
    int number;
  };
  constexpr int kSenders = 4;
  constexpr int kItems = 20000;
  BoundedQueue<Item> queue(64);
  std::vector<std::vector<Item>> items(kSenders);
  std::vector<std::thread> threads;
  for (int sender = 0; sender < kSenders; ++sender) {
    for (int i = 0; i < kItems; ++i) {
      items[static_cast<std::size_t>(sender)].push_back({sender, i});
    }
  }
  for (int sender = 0; sender < kSenders; ++sender) {
    threads.emplace_back([&queue, &items, sender] {
      for (Item& item : items[static_cast<std::size_t>(sender)]) {
        while (!queue.Push(&item)) std::this_thread::yield();
      }
    });
  }
  std::vector<int> next(kSenders, 0);
  int received = 0;
  while (received < kSenders * kItems) {
    Item* const item = queue.Pop();
    if (item == nullptr) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(item->number, next[static_cast<std::size_t>(item->sender)]++);
    ++received;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(queue.Empty());
}

}  // namespace
}  // namespace oxmem::transport
