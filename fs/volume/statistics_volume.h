#ifndef FS_VOLUME_STATISTICS_VOLUME_H_
#define FS_VOLUME_STATISTICS_VOLUME_H_

#include <memory>

#include "fs/volume/volume.h"
#include "transport/base/counter.h"
#include "transport/base/histogram.h"

namespace oxmem::fs {

// What went through a volume. The I/O thread adds, any thread reads.
struct VolumeStats {
  Counter reads;
  Counter read_bytes;
  Counter writes;
  Counter write_bytes;
  Counter zeroes;
  Counter zero_bytes;
  Counter flushes;
  Counter failures;
  Counter in_flight;
  Histogram read_latency;
  Histogram write_latency;
};

// Calls visit(name, is_level, description, counter) for every counter, in a fixed order.
template <typename Stats, typename Visitor>
void ForEachVolumeCounter(Stats& stats, Visitor&& visit) {
  visit("reads", false, "reads completed", stats.reads);
  visit("read_bytes", false, "bytes read", stats.read_bytes);
  visit("writes", false, "writes completed", stats.writes);
  visit("write_bytes", false, "bytes written", stats.write_bytes);
  visit("zeroes", false, "zero operations completed", stats.zeroes);
  visit("zero_bytes", false, "bytes zeroed", stats.zero_bytes);
  visit("flushes", false, "flushes completed", stats.flushes);
  visit("failures", false, "operations that failed", stats.failures);
  visit("in_flight", true, "operations under way", stats.in_flight);
}

// Counts and times operations: one for each front-end file and reactor.
class StatisticsVolume final : public ForwardingVolume, private IoListener {
 public:
  explicit StatisticsVolume(std::unique_ptr<Volume> beneath);

  void Start(IoOp& op) override;
  const VolumeStats& stats() const { return stats_; }

 private:
  void OnIoDone(IoOp& op) override;

  VolumeStats stats_;
};

}  // namespace oxmem::fs

#endif  // FS_VOLUME_STATISTICS_VOLUME_H_
