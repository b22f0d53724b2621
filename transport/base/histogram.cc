#include "transport/base/histogram.h"

#include <algorithm>
#include <bit>

namespace oxmem {

std::size_t Histogram::BucketOf(uint64_t ns) {
  if (ns < kSubBuckets) return static_cast<std::size_t>(ns);
  const int exponent = std::bit_width(ns) - 1;
  if (exponent >= kLargestExponent) return kBuckets - 1;
  const int shift = exponent - kSubBucketBits;
  const std::size_t sub_bucket = static_cast<std::size_t>(ns >> shift) & (kSubBuckets - 1);
  return kSubBuckets * static_cast<std::size_t>(shift + 1) + sub_bucket;
}

uint64_t Histogram::UpperBoundNs(std::size_t bucket) {
  if (bucket < kSubBuckets) return bucket;
  const std::size_t shift = bucket / kSubBuckets - 1;
  const uint64_t lower = (kSubBuckets + bucket % kSubBuckets) << shift;
  return lower + (uint64_t{1} << shift) - 1;
}

void Histogram::Record(Duration latency) {
  const uint64_t ns = static_cast<uint64_t>(std::max<int64_t>(latency.nanoseconds(), 0));
  buckets_[BucketOf(ns)].Increment();
  if (count_.value() == 0 || ns < min_ns_.value()) min_ns_.Set(ns);
  if (ns > max_ns_.value()) max_ns_.Set(ns);
  sum_ns_.Add(ns);
  count_.Increment();
}

double Histogram::mean_ns() const {
  const uint64_t n = count();
  return n == 0 ? 0.0 : static_cast<double>(sum_ns()) / static_cast<double>(n);
}

uint64_t Histogram::PercentileNs(double fraction) const {
  uint64_t total = 0;
  for (const Counter& bucket : buckets_) total += bucket.value();
  if (total == 0) return 0;
  const double clamped = std::clamp(fraction, 0.0, 1.0);
  const uint64_t rank =
      std::max<uint64_t>(1, static_cast<uint64_t>(clamped * static_cast<double>(total) + 0.5));
  uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i].value();
    if (seen >= rank) return std::min(UpperBoundNs(i), max_ns());
  }
  return max_ns();
}

uint64_t Histogram::CountAtMost(uint64_t limit_ns) const {
  const std::size_t last = BucketOf(limit_ns);
  uint64_t seen = 0;
  for (std::size_t i = 0; i <= last; ++i) seen += buckets_[i].value();
  return seen;
}

void Histogram::Merge(const Histogram& other) {
  if (other.count() == 0) return;
  if (count() == 0 || other.min_ns() < min_ns_.value()) min_ns_.Set(other.min_ns());
  max_ns_.Set(std::max(max_ns(), other.max_ns()));
  for (std::size_t i = 0; i < kBuckets; ++i) buckets_[i].Add(other.buckets_[i].value());
  sum_ns_.Add(other.sum_ns());
  count_.Add(other.count());
}

}  // namespace oxmem
