#include "transport/api/stats.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "transport/api/accounting.h"

namespace oxmem::transport {
namespace {

TEST(ChannelStats, TheListHasEveryCounterOnce) {
  ChannelStats stats;
  std::set<std::string> names;
  std::set<const Counter*> counters;
  int levels = 0;
  ForEachCounter(
      stats, [&](const char* name, bool is_level, const char* description, const Counter& counter) {
        EXPECT_TRUE(names.insert(name).second) << name;
        EXPECT_TRUE(counters.insert(&counter).second) << name;
        EXPECT_NE(std::string(description), "") << name;
        levels += is_level ? 1 : 0;
      });
  // Everything in the structure but the histogram is a counter.
  EXPECT_EQ(counters.size(), (sizeof(ChannelStats) - sizeof(Histogram)) / sizeof(Counter));
  EXPECT_EQ(levels, 1);
  EXPECT_TRUE(names.contains("in_flight"));
}

TEST(CountCompletion, EachOperationHasItsCounter) {
  const struct {
    Op op;
    Counter ChannelStats::*counter;
    Counter ChannelStats::*bytes;
  } kCases[] = {
      {Op::kRead, &ChannelStats::reads, &ChannelStats::read_bytes},
      {Op::kWrite, &ChannelStats::writes, &ChannelStats::write_bytes},
      {Op::kFlush, &ChannelStats::flushes, nullptr},
      {Op::kAtomic, &ChannelStats::atomics, nullptr},
      {Op::kZero, &ChannelStats::zeroes, nullptr},
      {Op::kPrefetch, &ChannelStats::prefetches, nullptr},
  };
  for (const auto& each : kCases) {
    ChannelStats stats;
    CountCompletion(stats, each.op, Code::kOk, 100, Duration::Nanoseconds(5));
    uint64_t sum = 0;
    ForEachCounter(stats, [&sum](const char*, bool, const char*, const Counter& counter) {
      sum += counter.value();
    });
    EXPECT_EQ((stats.*each.counter).value(), 1u);
    if (each.bytes != nullptr) {
      EXPECT_EQ((stats.*each.bytes).value(), 100u);
    }
    EXPECT_EQ(sum, each.bytes != nullptr ? 101u : 1u) << "and no other";
    EXPECT_EQ(stats.latency.count(), 1u);
  }
}

TEST(CountCompletion, FailuresAreCountedAsSuchAlone) {
  for (int number = 1; number < kCodeCount; ++number) {
    ChannelStats stats;
    CountCompletion(stats, Op::kRead, static_cast<Code>(number), 0, Duration::Nanoseconds(5));
    EXPECT_EQ(stats.failures.value(), 1u);
    EXPECT_EQ(stats.timeouts.value(), static_cast<Code>(number) == Code::kTimedOut ? 1u : 0u);
    EXPECT_EQ(stats.reads.value(), 0u);
    EXPECT_EQ(stats.latency.count(), 0u);
  }
}

}  // namespace
}  // namespace oxmem::transport
