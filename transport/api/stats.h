#ifndef TRANSPORT_API_STATS_H_
#define TRANSPORT_API_STATS_H_

#include "transport/base/counter.h"
#include "transport/base/histogram.h"

namespace oxmem::transport {

// Counters of one channel. The owner thread adds; any thread may read. Fields that a transport has
// no use for stay zero. A finished request counts in its operation's counter when it completed with
// kOk, in failures otherwise (CountCompletion does it), so that these and in_flight add up to what
// was accepted. ForEachCounter is the one list of them: text, JSON and Prometheus output are made
// from it.
struct ChannelStats {
  Counter reads;
  Counter read_bytes;
  Counter writes;
  Counter write_bytes;
  Counter flushes;
  Counter atomics;
  Counter zeroes;
  Counter prefetches;
  Counter failures;   // requests completed with anything but kOk
  Counter timeouts;   // of these, kTimedOut
  Counter in_flight;  // accepted and not completed: a level, not a sum
  Counter reconnects;
  Counter frames_sent;
  Counter frames_received;
  Counter wire_bytes_sent;
  Counter wire_bytes_received;
  Counter resends;  // frames sent again
  Counter naks_sent;
  Counter naks_received;
  Counter duplicates;     // frames received again
  Counter malformed;      // frames dropped because they could not be decoded
  Counter credit_stalls;  // times a message had to wait for the peer's credits
  Counter window_stalls;  // times a message had to wait for acknowledgements
  Histogram latency;      // of requests completed with kOk, submission to completion
};

// Calls visit(name, is_level, description, counter) for every counter, in a fixed order.
template <typename Stats, typename Visitor>
void ForEachCounter(Stats& stats, Visitor&& visit) {
  visit("reads", false, "reads completed", stats.reads);
  visit("read_bytes", false, "bytes read", stats.read_bytes);
  visit("writes", false, "writes completed", stats.writes);
  visit("write_bytes", false, "bytes written", stats.write_bytes);
  visit("flushes", false, "flushes completed", stats.flushes);
  visit("atomics", false, "atomic operations completed", stats.atomics);
  visit("zeroes", false, "zero operations completed", stats.zeroes);
  visit("prefetches", false, "prefetch hints completed", stats.prefetches);
  visit("failures", false, "requests that failed", stats.failures);
  visit("timeouts", false, "requests without an answer in time", stats.timeouts);
  visit("in_flight", true, "requests under way", stats.in_flight);
  visit("reconnects", false, "times the peer was found again", stats.reconnects);
  visit("frames_sent", false, "frames sent", stats.frames_sent);
  visit("frames_received", false, "frames received", stats.frames_received);
  visit("wire_bytes_sent", false, "bytes in frames sent", stats.wire_bytes_sent);
  visit("wire_bytes_received", false, "bytes in frames received", stats.wire_bytes_received);
  visit("resends", false, "frames sent again", stats.resends);
  visit("naks_sent", false, "negative acknowledgements sent", stats.naks_sent);
  visit("naks_received", false, "negative acknowledgements received", stats.naks_received);
  visit("duplicates", false, "frames received more than once", stats.duplicates);
  visit("malformed", false, "frames that could not be decoded", stats.malformed);
  visit("credit_stalls", false, "waits for credits", stats.credit_stalls);
  visit("window_stalls", false, "waits for acknowledgements", stats.window_stalls);
}

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_STATS_H_
