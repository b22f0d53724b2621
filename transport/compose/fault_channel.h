#ifndef TRANSPORT_COMPOSE_FAULT_CHANNEL_H_
#define TRANSPORT_COMPOSE_FAULT_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>

#include "transport/base/clock.h"
#include "transport/base/fixed_queue.h"
#include "transport/compose/shim_channel.h"
#include "transport/compose/slot_pool.h"

namespace oxmem::transport {

struct FaultOptions {
  // Shares of the requests, 0 to 1.
  double fail = 0;          // end with `code` and have no effect (a flush: has one)
  double fail_after = 0;    // end with `code` although they were carried out
  double corrupt = 0;       // of reads: one bit of the data is flipped
  double short_submit = 0;  // chance after each accepted request that Submit stops there
  Code code = Code::kFailed;
  uint64_t skip = 0;  // requests at the beginning that nothing happens to
  uint64_t most = std::numeric_limits<uint64_t>::max();  // failures and corruptions, then no more
  uint64_t seed = 1;
  // The peer is lost after this many requests, for this long.
  uint64_t cut_after = std::numeric_limits<uint64_t>::max();
  Duration cut_for = Duration::Seconds(3600);
  Duration timeout = Duration::Seconds(5);  // of a request to a lost peer
  std::function<Instant()> clock = Now;
};

// A channel with the faults that real ones have, at the wished rate. The same seed and requests
// give the same faults. While the peer is lost, requests are accepted and time out; when it is
// back, those that are left are carried out, the contents are what they were, and
// stats().reconnects goes up by one.
class FaultChannel final : public ShimChannel {
 public:
  FaultChannel(std::unique_ptr<Channel> below, FaultOptions options);

  std::size_t Submit(std::span<const Request> requests) override;
  std::size_t Poll(std::span<Completion> completions) override;
  bool Arm() override;
  Instant next_deadline() const override;
  void Close() override;
  absl::Status health() const override;

  // The same loss by hand, for tests; until RestorePeer.
  void CutPeer();
  void RestorePeer();

  uint64_t faults() const { return faults_; }  // failures and corruptions so far

 private:
  struct Slot {
    Request request;
    Instant start;
    bool fail = false;
    bool corrupt = false;
  };

  bool Chance(double share);
  bool AcceptOne(const Request& request, Instant now);
  void Finish(uint32_t slot, Completion completion, Instant now);
  void FollowTime(Instant now);

  const FaultOptions options_;
  SlotPool<Slot> slots_;
  FixedQueue<uint32_t> lost_;  // sent to a lost peer, in order of their deadlines
  uint64_t random_state_;
  uint64_t accepted_ = 0;
  uint64_t faults_ = 0;
  uint64_t restored_ = 0;
  bool cut_ = false;
  Instant cut_until_ = Instant::Never();
  bool closed_ = false;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_FAULT_CHANNEL_H_
