#ifndef TRANSPORT_COMPOSE_STRIPED_CHANNEL_H_
#define TRANSPORT_COMPOSE_STRIPED_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/api/completion_ring.h"
#include "transport/base/fixed_queue.h"
#include "transport/compose/legs.h"
#include "transport/compose/slot_pool.h"

namespace oxmem::transport {

// One region over several: chunk i of the whole is chunk i / n of leg i % n. The size is n times
// the smallest leg's whole chunks; what a larger leg has beyond that is not used.
//
// A request is cut into the parts that lie in one chunk each; it completes when all have, with the
// first error there was. A leg that loses its peer fails the requests that touch it and no others.
class StripedChannel final : public Channel {
 public:
  // `chunk_bytes` is a multiple of 8 and of the legs' alignment, and at most their largest request.
  static absl::StatusOr<std::unique_ptr<StripedChannel>> Create(
      std::vector<std::unique_ptr<Channel>> legs, uint64_t chunk_bytes);

  std::size_t Submit(std::span<const Request> requests) override;
  std::size_t Poll(std::span<Completion> completions) override;
  bool Arm() override;
  int event_fd() const override { return legs_.event_fd(); }
  Instant next_deadline() const override { return legs_.next_deadline(); }
  void Close() override;
  absl::StatusOr<MemoryHandle> Register(std::span<std::byte> memory) override {
    return legs_.Register(memory);
  }
  const Limits& limits() const override { return limits_; }
  const ChannelStats& stats() const override { return stats_; }
  const std::string& name() const override { return name_; }
  absl::Status health() const override { return legs_.FirstTrouble(); }

 private:
  struct Slot {
    Request request;
    Instant start;
    uint64_t parts_left = 0;
    uint64_t old_value = 0;
    Code code = Code::kOk;
    int32_t provider_code = 0;
  };
  // What a leg still has to be given of one request: parts next_chunk, next_chunk + n, … or, for
  // operations without a buffer, a single part.
  struct Work {
    uint32_t slot = 0;
    uint64_t next_chunk = 0;
  };
  struct Part {
    Request request;
    bool last_of_work = false;
  };

  StripedChannel(Legs legs, uint64_t chunk_bytes);

  void Start(const Request& request, Instant now);
  void StartTransfer(uint32_t slot);
  void StartRange(uint32_t slot);
  void StartFlush(uint32_t slot);
  void StartAtomic(uint32_t slot);

  uint64_t PartsLeft(const Work& work);
  Part NextPart(std::size_t leg, const Work& work);
  Request RangePart(std::size_t leg, const Request& whole) const;
  uint64_t LegOffset(uint64_t offset) const;

  void Issue(std::size_t leg);
  void FailQueued(std::size_t leg, Code code, int32_t provider_code);
  void FinishPart(std::size_t leg, const Completion& completion, Instant now);
  void FinishParts(uint32_t slot, uint64_t count, Instant now);

  Legs legs_;
  const uint64_t chunk_bytes_;
  Limits limits_;
  const std::string name_;
  SlotPool<Slot> slots_;
  std::vector<FixedQueue<Work>> queues_;  // by leg: what it could not take yet, in order
  CompletionRing done_;
  ChannelStats stats_;
  std::size_t in_flight_ = 0;
  bool closed_ = false;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_STRIPED_CHANNEL_H_
