#ifndef OXMEM_NODE_EXECUTOR_H_
#define OXMEM_NODE_EXECUTOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "oxmem/node/region_map.h"
#include "oxmem/tilelink/codec.h"
#include "oxmem/tilelink/message.h"
#include "transport/base/counter.h"

namespace oxmem::node {

// What became of the requests. One thread adds, any reads.
struct ExecutorStats {
  Counter reads;
  Counter read_bytes;
  Counter writes;
  Counter write_bytes;
  Counter atomics;
  Counter hints;
  Counter denied_range;  // address not within a region
  Counter denied_read_only;
  Counter denied_lost;         // of a file that was cut short, or that its disk does not give back
  Counter denied_unsupported;  // an operation or size this node does not have
  Counter denied_malformed;    // misaligned, cut short, or marked corrupt by the sender
  Counter unexpected;          // messages that are no requests to a node; not answered
};

struct Answer {
  tilelink::Message message;
  tilelink::MemoryPayload
      payload;  // points into the region or the executor; valid until the next call
  const Region* region = nullptr;  // that the payload points into, if its memory can go away
};

struct ExecutorLimits {
  uint8_t largest_data_size = 10;  // log2 of the data that one answer can carry
  bool allow_misaligned = false;   // some old initiators send whatever address they have
};

// Carries out TL-UL and TL-UH requests on the regions: no I/O, no state but the memory.
// Requests of TL-C are denied: this node keeps no directory of copies.
class Executor {
 public:
  explicit Executor(RegionMap* regions) : regions_(regions) {}

  // Whether the message is a request that Execute answers. The others need no answer.
  static bool WantsAnswer(const tilelink::Message& request);

  // The answer's header without carrying anything out: what room it needs.
  static std::size_t AnswerFlits(const tilelink::Message& request, const ExecutorLimits& limits);

  // Whether what the answer's payload points to was still there until now. If not, it has been
  // copied as zeros, and is counted.
  bool IsIntact(const Answer& answer);

  // Carries the request out and returns its answer.
  Answer Execute(const tilelink::DecodedMessage& request, tilelink::DataOrder order,
                 const ExecutorLimits& limits);

  void CountUnexpected() { stats_.unexpected.Increment(); }
  const ExecutorStats& stats() const { return stats_; }

 private:
  Answer Read(const tilelink::Message& request, const ExecutorLimits& limits);
  Answer Write(const tilelink::DecodedMessage& request, tilelink::DataOrder order,
               const ExecutorLimits& limits);
  Answer ReadModifyWrite(const tilelink::DecodedMessage& request, tilelink::DataOrder order,
                         const ExecutorLimits& limits);
  Answer Hint(const tilelink::Message& request, const ExecutorLimits& limits);
  // The region of a request that may be carried out, or null, counted, if it must be denied.
  const Region* Admit(const tilelink::Message& request, const ExecutorLimits& limits,
                      bool modifies);
  // Denies what was carried out on memory that has gone away meanwhile.
  Answer Checked(const tilelink::Message& request, const ExecutorLimits& limits,
                 const Region& region, const Answer& answer);

  RegionMap* regions_;
  ExecutorStats stats_;
  std::array<std::byte, 8> old_value_{};
};

// As the one of transport/api/stats.h.
template <typename Visitor>
void ForEachCounter(const ExecutorStats& stats, Visitor&& visit) {
  visit("reads", false, "Get requests answered", stats.reads);
  visit("read_bytes", false, "bytes read", stats.read_bytes);
  visit("writes", false, "Put requests carried out", stats.writes);
  visit("write_bytes", false, "bytes written", stats.write_bytes);
  visit("atomics", false, "atomic operations", stats.atomics);
  visit("hints", false, "Intent hints", stats.hints);
  visit("denied_range", false, "requests outside every region", stats.denied_range);
  visit("denied_read_only", false, "writes to read-only regions", stats.denied_read_only);
  visit("denied_lost", false, "requests for memory that went away", stats.denied_lost);
  visit("denied_unsupported", false, "requests this node does not have", stats.denied_unsupported);
  visit("denied_malformed", false, "misaligned, cut short or corrupt requests",
        stats.denied_malformed);
  visit("unexpected", false, "messages that are no requests", stats.unexpected);
}

}  // namespace oxmem::node

#endif  // OXMEM_NODE_EXECUTOR_H_
