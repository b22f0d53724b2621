#ifndef APPS_TOP_TOP_MODEL_H_
#define APPS_TOP_TOP_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apps/common/figures_json.h"
#include "transport/base/clock.h"

namespace oxmem::apps {

// How often a part did what, between two readings of it. Per second.
struct TopRates {
  double reads = 0;
  double read_bytes = 0;
  double writes = 0;
  double write_bytes = 0;
  double resends = 0;
  double failures = 0;
};

// Of the reads and writes between two readings, to the precision of the histogram's buckets.
struct TopLatencies {
  uint64_t p50_ns = 0;
  uint64_t p99_ns = 0;
  uint64_t p999_ns = 0;
};

// One line: a process, or indented below it a file, an endpoint or a channel.
struct TopRow {
  std::string name;  // as the process gave it, printable
  int indent = 0;
  std::string mode;  // of a file: passthrough, page-cache, direct
  uint64_t in_flight = 0;
  // Not there as long as the part was read only once.
  std::optional<TopRates> rates;
  std::optional<TopLatencies> latencies;  // nor if nothing was timed
};

// Turns readings of the counters of all processes (the answers to `stats`) into rates. What is not
// in a reading as expected counts as zero: a process may be of another version. One thread uses it.
class TopModel {
 public:
  // The rows of this reading, in the order of the processes and their parts. A part that was in the
  // reading before has rates since then; one whose process began anew has not.
  std::vector<TopRow> Update(const std::vector<Json>& processes, Instant now);

 private:
  // What is kept of a part until the next reading.
  struct Reading {
    std::map<std::string, uint64_t> counters;
    std::map<uint64_t, uint64_t> buckets;  // of all latencies, largest latency to count
    uint64_t in_flight = 0;
    void Add(const Reading& other);
  };
  using Readings = std::map<std::string, Reading>;

  static Reading ReadingOf(const Json& part);
  TopRow RowOf(const std::string& key, Reading reading, Readings* next) const;
  void AddProcess(const Json& process, std::vector<TopRow>* rows, Readings* next) const;

  Readings before_;
  Instant read_at_;
  double seconds_ = 0;  // between the last two readings
};

}  // namespace oxmem::apps

#endif  // APPS_TOP_TOP_MODEL_H_
