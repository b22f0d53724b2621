#ifndef TRANSPORT_API_ACCOUNTING_H_
#define TRANSPORT_API_ACCOUNTING_H_

#include "transport/api/request.h"
#include "transport/api/stats.h"
#include "transport/base/check.h"
#include "transport/base/clock.h"

namespace oxmem::transport {

// Counts a finished request, the same way in every channel: the operation's counters and the
// latency if it worked, a failure if not. `in_flight` is the channel's own business.
inline void CountCompletion(ChannelStats& stats, Op op, Code code, uint64_t bytes,
                            Duration latency) {
  if (code != Code::kOk) {
    stats.failures.Increment();
    if (code == Code::kTimedOut) stats.timeouts.Increment();
    return;
  }
  stats.latency.Record(latency);
  switch (op) {
    case Op::kRead:
      stats.reads.Increment();
      stats.read_bytes.Add(bytes);
      return;
    case Op::kWrite:
      stats.writes.Increment();
      stats.write_bytes.Add(bytes);
      return;
    case Op::kFlush:
      stats.flushes.Increment();
      return;
    case Op::kAtomic:
      stats.atomics.Increment();
      return;
    case Op::kZero:
      stats.zeroes.Increment();
      return;
    case Op::kPrefetch:
      stats.prefetches.Increment();
      return;
  }
  OXMEM_CHECK(false);
}

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_ACCOUNTING_H_
