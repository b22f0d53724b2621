#ifndef TRANSPORT_COMPOSE_PACED_CHANNEL_H_
#define TRANSPORT_COMPOSE_PACED_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "transport/base/clock.h"
#include "transport/compose/shim_channel.h"
#include "transport/compose/slot_pool.h"

namespace oxmem::transport {

struct PacedOptions {
  Duration latency;               // added to every request
  Duration jitter;                // and up to this much more, evenly spread
  // Of reads, writes and zeroing together, one after the other; 0: no bound.
  uint64_t bytes_per_second = 0;
  uint64_t requests_per_second = 0;  // 0: no bound
  uint64_t seed = 1;
  std::function<Instant()> clock = Now;
};

// Makes a channel as slow as one wishes, to see what is above it behave so. Requests go below at
// once; their completions are held back until the time a link of that latency and rate would have
// delivered them, counted from acceptance. The same seed, clock and requests give the same times.
class PacedChannel final : public ShimChannel {
 public:
  PacedChannel(std::unique_ptr<Channel> below, const std::string& kind, PacedOptions options);

  std::size_t Submit(std::span<const Request> requests) override;
  std::size_t Poll(std::span<Completion> completions) override;
  bool Arm() override;
  Instant next_deadline() const override;
  void Close() override;

 private:
  struct Slot {
    uint64_t cookie = 0;
    Op op = Op::kRead;
    Instant start;
    Instant due;
    uint64_t number = 0;  // of acceptance; decides among equal times
    Completion completion;
  };

  Instant DueTime(const Request& request, Instant now);
  bool Later(uint32_t a, uint32_t b) const;
  void Release(Instant now);

  const PacedOptions options_;
  SlotPool<Slot> slots_;
  std::vector<uint32_t> held_;  // a heap of finished slots, the earliest due first
  uint64_t random_state_;
  uint64_t accepted_ = 0;
  Instant link_free_;   // when the link is done with what was accepted
  Instant latest_due_;  // a flush is due no earlier than anything before it
  bool closed_ = false;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_PACED_CHANNEL_H_
