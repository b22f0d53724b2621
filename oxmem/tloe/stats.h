#ifndef OXMEM_TLOE_STATS_H_
#define OXMEM_TLOE_STATS_H_

#include "transport/base/counter.h"

namespace oxmem::tloe {

// One thread adds, any thread reads.
struct EngineStats {
  Counter frames_sent;  // all, resends and acknowledgements included
  Counter frames_received;
  Counter bytes_sent;
  Counter bytes_received;
  Counter messages_sent;
  Counter messages_received;
  Counter resends;
  Counter resend_timeouts;
  Counter acks_sent;  // frames with nothing but an acknowledgement
  Counter naks_sent;
  Counter naks_received;
  Counter duplicates;
  Counter gaps;
  Counter malformed;
  Counter ignored;
  Counter credit_stalls;  // waits, however often they were looked at
  Counter window_stalls;
  Counter credit_violations;  // the peer sent more than it was granted
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_STATS_H_
