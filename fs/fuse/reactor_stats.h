#ifndef FS_FUSE_REACTOR_STATS_H_
#define FS_FUSE_REACTOR_STATS_H_

#include "transport/base/counter.h"

namespace oxmem::fs {

// What one reactor did beside the operations its volumes count. Its thread adds, any thread reads.
struct ReactorStats {
  Counter requests;    // read from the kernel, of all kinds
  Counter timeouts;    // operations answered with EIO because their time was over
  Counter interrupts;  // asked for by the kernel, for a thread that got a signal
  Counter abandoned;   // of these, operations given up because their thread is being killed
  Counter sleeps;      // times it went to sleep
};

// Calls visit(name, is_level, description, counter) for every counter, in a fixed order.
template <typename Stats, typename Visitor>
void ForEachReactorCounter(Stats& stats, Visitor&& visit) {
  visit("requests", false, "requests of the kernel, of all kinds", stats.requests);
  visit("timeouts", false, "operations that failed because their time was over", stats.timeouts);
  visit("interrupts", false, "requests interrupted by a signal", stats.interrupts);
  visit("abandoned", false, "operations given up because their thread was killed", stats.abandoned);
  visit("sleeps", false, "times a reactor slept because there was nothing to do", stats.sleeps);
}

}  // namespace oxmem::fs

#endif  // FS_FUSE_REACTOR_STATS_H_
