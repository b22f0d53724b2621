#include "transport/base/histogram.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace oxmem {
namespace {

constexpr uint64_t kLargest = (uint64_t{1} << Histogram::kLargestExponent) - 1;

void RecordNs(Histogram& histogram, uint64_t ns) {
  histogram.Record(Duration::Nanoseconds(static_cast<int64_t>(ns)));
}

TEST(Histogram, BucketsAreContiguousNarrowAndInOrder) {
  for (std::size_t bucket = 0; bucket + 1 < Histogram::kBuckets; ++bucket) {
    const uint64_t upper = Histogram::UpperBoundNs(bucket);
    ASSERT_EQ(Histogram::BucketOf(upper), bucket);
    ASSERT_EQ(Histogram::BucketOf(upper + 1), bucket + 1) << "no gap behind " << upper;
    const uint64_t next = Histogram::UpperBoundNs(bucket + 1);
    ASSERT_GT(next, upper);
    ASSERT_LE(next - upper, std::max<uint64_t>(upper / 16 + 1, 1)) << "at most 1/16 wide";
  }
  EXPECT_EQ(Histogram::UpperBoundNs(Histogram::kBuckets - 1), kLargest);
}

TEST(Histogram, TheLastBucketTakesWhatIsLonger) {
  EXPECT_EQ(Histogram::BucketOf(kLargest), Histogram::kBuckets - 1);
  EXPECT_EQ(Histogram::BucketOf(kLargest + 1), Histogram::kBuckets - 1);
  EXPECT_EQ(Histogram::BucketOf(~uint64_t{0}), Histogram::kBuckets - 1);
  Histogram histogram;
  RecordNs(histogram, kLargest * 4);
  EXPECT_EQ(histogram.count(), 1u);
  EXPECT_EQ(histogram.max_ns(), kLargest * 4) << "the greatest is kept exactly";
}

TEST(Histogram, EmptyIsZeroEverywhere) {
  const Histogram histogram;
  EXPECT_EQ(histogram.count(), 0u);
  EXPECT_EQ(histogram.min_ns(), 0u);
  EXPECT_EQ(histogram.max_ns(), 0u);
  EXPECT_EQ(histogram.mean_ns(), 0.0);
  EXPECT_EQ(histogram.PercentileNs(0.5), 0u);
  EXPECT_EQ(histogram.CountAtMost(~uint64_t{0}), 0u);
}

TEST(Histogram, ANegativeLatencyCountsAsZero) {
  Histogram histogram;
  histogram.Record(Duration::Nanoseconds(-5));
  EXPECT_EQ(histogram.count(), 1u);
  EXPECT_EQ(histogram.max_ns(), 0u);
}

TEST(Histogram, CountSumAndExtremesAreExact) {
  Histogram histogram;
  for (const uint64_t ns : {700u, 3u, 100000u, 3u}) RecordNs(histogram, ns);
  EXPECT_EQ(histogram.count(), 4u);
  EXPECT_EQ(histogram.sum_ns(), 100706u);
  EXPECT_EQ(histogram.min_ns(), 3u);
  EXPECT_EQ(histogram.max_ns(), 100000u);
  EXPECT_DOUBLE_EQ(histogram.mean_ns(), 100706.0 / 4);
}

TEST(Histogram, PercentilesMatchASortedListToBucketPrecision) {
  std::mt19937_64 random(7);
  Histogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 20000; ++i) {
    const uint64_t value = random() >> (24 + random() % 40);
    values.push_back(value);
    RecordNs(histogram, value);
  }
  std::sort(values.begin(), values.end());
  for (const double fraction : {0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0}) {
    const auto rank = static_cast<std::size_t>(fraction * static_cast<double>(values.size()) + 0.5);
    const uint64_t exact = values[std::max<std::size_t>(rank, 1) - 1];
    const uint64_t seen = histogram.PercentileNs(fraction);
    EXPECT_GE(seen, exact) << fraction;
    EXPECT_LE(seen, exact + exact / 16 + 1) << fraction;
  }
  EXPECT_EQ(histogram.PercentileNs(1.0), values.back());
  EXPECT_EQ(histogram.PercentileNs(7.0), values.back()) << "fractions are clamped";
}

TEST(Histogram, CountAtMostIsMonotonicAndComplete) {
  Histogram histogram;
  for (uint64_t ns = 1; ns < 100000; ns += 7) RecordNs(histogram, ns);
  uint64_t last = 0;
  for (uint64_t limit = 0; limit < 200000; limit += 501) {
    const uint64_t count = histogram.CountAtMost(limit);
    ASSERT_GE(count, last);
    last = count;
  }
  EXPECT_EQ(histogram.CountAtMost(100000), histogram.count());
  EXPECT_EQ(histogram.CountAtMost(0), 0u);
}

TEST(Histogram, MergingIsAsIfAllHadBeenRecordedInOne) {
  Histogram all;
  Histogram parts[3];
  for (uint64_t i = 0; i < 3000; ++i) {
    const uint64_t ns = i * i % 77777 + 5;
    RecordNs(all, ns);
    RecordNs(parts[i % 2], ns);  // the third stays empty
  }
  Histogram merged;
  for (const Histogram& part : parts) merged.Merge(part);
  EXPECT_EQ(merged.count(), all.count());
  EXPECT_EQ(merged.sum_ns(), all.sum_ns());
  EXPECT_EQ(merged.min_ns(), all.min_ns());
  EXPECT_EQ(merged.max_ns(), all.max_ns());
  for (const double fraction : {0.1, 0.5, 0.99}) {
    EXPECT_EQ(merged.PercentileNs(fraction), all.PercentileNs(fraction));
  }
}

TEST(Histogram, IsReadAndCopiedWhileItIsRecordedInto) {
  Histogram histogram;
  std::atomic<bool> done = false;
  std::thread reader([&] {
    uint64_t last = 0;
    while (!done) {
      const Histogram copy = histogram;
      ASSERT_GE(copy.count(), last);
      last = copy.count();
      ASSERT_LE(copy.PercentileNs(0.5), 2000u);
    }
  });
  for (uint64_t i = 0; i < 100000; ++i) RecordNs(histogram, i % 1000);
  done = true;
  reader.join();
  EXPECT_EQ(histogram.count(), 100000u);
}

}  // namespace
}  // namespace oxmem
