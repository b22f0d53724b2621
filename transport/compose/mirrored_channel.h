#ifndef TRANSPORT_COMPOSE_MIRRORED_CHANNEL_H_
#define TRANSPORT_COMPOSE_MIRRORED_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/api/completion_ring.h"
#include "transport/base/fixed_queue.h"
#include "transport/base/log.h"
#include "transport/compose/legs.h"
#include "transport/compose/mirror_state.h"
#include "transport/compose/slot_pool.h"

namespace oxmem::transport {

struct MirrorOptions {
  enum class Read : uint8_t {
    kFirst,   // all from the first leg that is in sync
    kSpread,  // each MiB of the region from a leg of its own, for the bandwidth of all
  };
  Read read = Read::kFirst;
  // Copies the first leg to the others after the first opening of the mirror; otherwise the legs
  // are taken to be equal.
  bool copy_at_open = false;
  // Of as many legs, shared with other channels; null: of this channel alone.
  std::shared_ptr<MirrorState> state = nullptr;
  std::function<Instant()> clock = Now;
};

// One region kept on several legs. The life of a leg:
//
//            misses a write, or its peer came back and may have forgotten
//   in sync ───────────────────────────────────────────────────────────────▶ out
//      ▲                                                                      │ its peer answers
//      └── all copied and flushed ── resync ◀─────────────────────────────────┘
//                                      └── misses a write ──▶ out
//
// Writes (also zeroing and atomics) go to every leg that is in sync or being resynced, and are done
// when all of them have answered. A write succeeds if every leg that is in sync then has it. Reads
// go to a leg in sync, and after a failure to another one. At least one leg is always in sync: the
// last one is not given up, and its failures are the mirror's. Until a lost leg's first write has
// failed (by its own deadline) that write waits for it.
//
// Channels with the same legs share a MirrorState: a leg that one of them finds lost is read by
// none of them from then on, and one of them brings it back. Overlapping writes of all of them are
// sent one after the other, so that the legs stay equal.
//
// health() says which leg is out and how far its resync is.
class MirroredChannel final : public Channel {
 public:
  static constexpr std::size_t kMaxLegs = MirrorState::kMaxLegs;

  // 2 to kMaxLegs legs; the size is that of the smallest.
  static absl::StatusOr<std::unique_ptr<MirroredChannel>> Create(
      std::vector<std::unique_ptr<Channel>> legs, MirrorOptions options);

  std::size_t Submit(std::span<const Request> requests) override;
  std::size_t Poll(std::span<Completion> completions) override;
  bool Arm() override;
  int event_fd() const override { return legs_.event_fd(); }
  Instant next_deadline() const override;
  void Close() override;
  absl::StatusOr<MemoryHandle> Register(std::span<std::byte> memory) override {
    return legs_.Register(memory);
  }
  const Limits& limits() const override { return limits_; }
  const ChannelStats& stats() const override { return stats_; }
  const std::string& name() const override { return name_; }
  absl::Status health() const override;

 private:
  struct Leg {
    explicit Leg(uint32_t depth) : queue(depth) {}
    bool suspect = false;  // failed a read lately; others are preferred
    uint64_t reconnects_seen = 0;
    FixedQueue<uint32_t> queue;  // slots it could not take yet, in order
  };
  struct Slot {
    Request request;
    Instant start;
    uint64_t pending = 0;  // legs that have not answered, a bit each
    uint64_t good = 0;     // legs that answered with kOk
    uint64_t tried = 0;    // legs a read was sent to
    uint64_t old_value = 0;
    std::size_t old_value_leg = kMaxLegs;
    Code code = Code::kOk;  // the first failure
    int32_t provider_code = 0;
  };
  enum class ResyncStep : uint8_t { kIdle, kWaitForRange, kReading, kWriting, kFlushing };
  struct Resync {
    ResyncStep step = ResyncStep::kIdle;
    std::size_t leg = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    std::vector<std::byte> buffer;
  };

  // The channel's place in the shared state; goes after the legs, when nothing is under way.
  class Membership {
   public:
    Membership(std::shared_ptr<MirrorState> state, const void* channel, std::size_t ranges)
        : state_(std::move(state)), channel_(channel), ranges_(ranges) {
      state_->Join(ranges_);
    }
    ~Membership() { state_->Part(channel_, ranges_); }
    Membership(const Membership&) = delete;
    Membership& operator=(const Membership&) = delete;
    MirrorState* operator->() const { return state_.get(); }

   private:
    const std::shared_ptr<MirrorState> state_;
    const void* const channel_;
    const std::size_t ranges_;
  };

  MirroredChannel(Legs legs, MirrorOptions options);

  static uint64_t Bit(std::size_t leg) { return uint64_t{1} << leg; }
  bool ChangesMemory(Op op) const {
    return op == Op::kWrite || op == Op::kZero || op == Op::kAtomic;
  }
  uint64_t all_legs() const { return ~uint64_t{0} >> (kMaxLegs - states_.size()); }
  bool IsInSync(std::size_t leg) const { return (state_->in_sync() & Bit(leg)) != 0; }
  bool IsCopiedTo(std::size_t leg) const { return (state_->copied_to() & Bit(leg)) != 0; }
  RangeLocks::Owner OwnerOf(uint32_t slot) const { return {.channel = this, .slot = slot}; }

  void Accept(const Request& request, Instant now);
  // False for a change that has to wait for another one.
  bool Start(uint32_t slot);
  void StartWaiting();
  // Nothing of this channel may tell that another channel's change has ended.
  void PlanRetry(Instant now);
  std::size_t ReadLeg(const Slot& slot) const;
  void SendTo(std::size_t leg, uint32_t slot);
  void Issue(std::size_t leg);

  void NoticeReconnect(std::size_t leg);
  // Legs that other channels took out.
  void NoticeOthers();
  void FinishPart(std::size_t leg, const Completion& completion, Instant now);
  void FinishRead(std::size_t leg, uint32_t slot, const Completion& completion, Instant now);
  void FinishChange(std::size_t leg, uint32_t slot, const Completion& completion, Instant now);
  void FailQueued(std::size_t leg, const Completion& cause, Instant now);
  void Complete(uint32_t slot, Code code, Instant now);

  // The leg missed something. Does nothing to the last leg in sync.
  void TakeOut(std::size_t leg, const char* why);
  void CheckLegs(Instant now);
  std::size_t ResyncSource() const;
  void StartResync(std::size_t leg);
  void AdvanceResync();
  void FinishResyncPart(std::size_t leg, const Completion& completion);
  void EndResync();
  Request ResyncRequest() const;

  const MirrorOptions options_;
  Limits limits_;
  Membership state_;
  Resync resync_;  // before the legs, which may write its buffer until they are gone
  Legs legs_;
  const std::string name_;
  std::vector<Leg> states_;
  SlotPool<Slot> slots_;
  FixedQueue<uint32_t> waiting_;  // changes behind an overlapping one, and what must not overtake
  CompletionRing done_;
  ChannelStats stats_;
  LogLimiter log_limiter_;
  Instant next_check_ = Instant::Never();  // of legs that are out or suspect
  Instant next_try_ = Instant::Never();    // of what waits for other channels
  std::size_t in_flight_ = 0;
  bool closed_ = false;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_MIRRORED_CHANNEL_H_
