#ifndef APPS_LOAD_LOAD_H_
#define APPS_LOAD_LOAD_H_

#include <cstdint>
#include <string>

#include "apps/common/channel_wait.h"
#include "transport/api/request.h"
#include "transport/base/clock.h"
#include "transport/base/counter.h"
#include "transport/base/histogram.h"

namespace oxmem::apps {

enum class LoadOp : uint8_t { kRead, kWrite, kMixed, kAtomic };
enum class AccessPattern : uint8_t { kRandom, kSequential };

// What one thread does to its channel. The blocks are [offset, offset + range) of the region, cut
// into pieces of `size` bytes.
struct LoadOptions {
  LoadOp op = LoadOp::kRead;
  AccessPattern pattern = AccessPattern::kRandom;
  uint64_t size = 4096;
  uint32_t depth = 32;
  uint64_t offset = 0;
  uint64_t range = 0;        // at least one block
  uint64_t first_block = 0;  // where a sequential walk begins
  uint64_t count = 0;        // operations; 0: until stopped
  double read_share = 0.5;   // of a mixed load
  uint64_t seed = 1;
  bool verify = false;      // keep a ledger, check every byte read; nobody else writes the range
  bool keep_going = false;  // count failed requests and go on
  Duration spin = Duration::Microseconds(50);  // before it sleeps
};

// The first thing that went wrong.
struct LoadFailure {
  bool is_mismatch = false;  // otherwise a request failed with `code`
  transport::Op op = transport::Op::kRead;
  transport::Code code = transport::Code::kOk;
  uint64_t offset = 0;
  std::string what;  // one line
};

// One thread adds, any reads.
struct LoadCounters {
  Counter operations;  // completed with kOk
  Counter bytes;
  Counter failures;
  Counter mismatches;
  Histogram latency;  // of the completed, submission to completion
};

// "read", "atomic", "random": the words of the command line.
const char* LoadOpName(LoadOp op);
const char* AccessPatternName(AccessPattern pattern);

}  // namespace oxmem::apps

#endif  // APPS_LOAD_LOAD_H_
