#include "transport/base/counter.h"

#include <atomic>
#include <thread>

#include "gtest/gtest.h"

namespace oxmem {
namespace {

TEST(Counter, CountsAndIsCopiedByValue) {
  Counter counter;
  EXPECT_EQ(counter.value(), 0u);
  counter.Increment();
  counter.Add(41);
  Counter copy(counter);
  counter.Set(7);
  EXPECT_EQ(counter.value(), 7u);
  EXPECT_EQ(copy.value(), 42u);
  copy = counter;
  EXPECT_EQ(copy.value(), 7u);
}

// One thread adds, another reads: thread sanitizer watches, and no value is ever torn or goes back.
TEST(Counter, IsReadWhileItIsAddedTo) {
  constexpr uint64_t kStep = uint64_t{1} << 32 | 1;  // both halves change
  constexpr uint64_t kSteps = 200000;
  Counter counter;
  std::atomic<bool> done = false;
  std::thread reader([&] {
    uint64_t last = 0;
    while (!done) {
      const uint64_t value = counter.value();
      ASSERT_EQ(value % kStep, 0u);
      ASSERT_GE(value, last);
      last = value;
    }
  });
  for (uint64_t i = 0; i < kSteps; ++i) counter.Add(kStep);
  done = true;
  reader.join();
  EXPECT_EQ(counter.value(), kSteps * kStep);
}

}  // namespace
}  // namespace oxmem
