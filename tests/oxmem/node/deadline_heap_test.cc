#include "oxmem/node/deadline_heap.h"

#include <algorithm>
#include <map>
#include <random>

#include "gtest/gtest.h"

namespace oxmem::node {
namespace {

Instant At(int64_t ns) { return Instant::FromNanoseconds(ns); }

TEST(DeadlineHeap, IsNeverWhenNothingIsSet) {
  DeadlineHeap heap;
  EXPECT_TRUE(heap.soonest().is_never());
  heap.Set(5, At(3));
  heap.Set(5, Instant::Never());
  EXPECT_TRUE(heap.soonest().is_never());
}

TEST(DeadlineHeap, AgreesWithAModelThroughRandomUse) {
  std::mt19937 random(11);
  DeadlineHeap heap;
  std::map<uint32_t, int64_t> model;
  for (int step = 0; step < 50000; ++step) {
    const uint32_t id = random() % 200;
    if (random() % 3 == 0) {
      heap.Set(id, Instant::Never());
      model.erase(id);
    } else {
      const int64_t when = random() % 1000;
      heap.Set(id, At(when));
      model[id] = when;
    }
    if (model.empty()) {
      ASSERT_TRUE(heap.soonest().is_never());
      continue;
    }
    int64_t soonest = INT64_MAX;
    for (const auto& [unused, when] : model) soonest = std::min(soonest, when);
    ASSERT_EQ(heap.soonest(), At(soonest));
    ASSERT_EQ(model.at(heap.soonest_id()), soonest);
  }
}

}  // namespace
}  // namespace oxmem::node
