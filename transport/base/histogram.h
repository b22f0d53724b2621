#ifndef TRANSPORT_BASE_HISTOGRAM_H_
#define TRANSPORT_BASE_HISTOGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "transport/base/clock.h"
#include "transport/base/counter.h"

namespace oxmem {

// Latencies in buckets of at most 1/16 relative width, from 1 ns to 2^40 ns (18 minutes; longer
// ones are counted in the last bucket). One thread records, any thread reads or copies; recording
// does not allocate.
class Histogram {
 public:
  static constexpr int kSubBucketBits = 4;
  static constexpr std::size_t kSubBuckets = std::size_t{1} << kSubBucketBits;
  static constexpr int kLargestExponent = 40;
  static constexpr std::size_t kBuckets = kSubBuckets * (kLargestExponent - kSubBucketBits + 1);

  void Record(Duration latency);

  uint64_t count() const { return count_.value(); }
  uint64_t sum_ns() const { return sum_ns_.value(); }
  uint64_t max_ns() const { return max_ns_.value(); }
  uint64_t min_ns() const { return count() == 0 ? 0 : min_ns_.value(); }
  double mean_ns() const;
  // The latency below which `fraction` (0 to 1) of the records lie, to bucket precision; 0 if
  // empty.
  uint64_t PercentileNs(double fraction) const;
  // How many records are at most `limit_ns`, to bucket precision.
  uint64_t CountAtMost(uint64_t limit_ns) const;

  void Merge(const Histogram& other);

  static std::size_t BucketOf(uint64_t ns);
  // The largest value that falls in the bucket.
  static uint64_t UpperBoundNs(std::size_t bucket);

 private:
  std::array<Counter, kBuckets> buckets_{};
  Counter count_;
  Counter sum_ns_;
  Counter min_ns_;
  Counter max_ns_;
};

}  // namespace oxmem

#endif  // TRANSPORT_BASE_HISTOGRAM_H_
