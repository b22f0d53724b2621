#ifndef TRANSPORT_COMPOSE_MIRROR_STATE_H_
#define TRANSPORT_COMPOSE_MIRROR_STATE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "transport/api/limits.h"
#include "transport/base/mutex.h"
#include "transport/base/unique_fd.h"
#include "transport/compose/range_locks.h"

namespace oxmem::transport {

// What all channels of one mirror agree on, each on its own thread: which legs are in sync, which
// one is being copied to, and which ranges something under way changes.
//
// Which legs are out of sync, and what the legs can do, lies in a memory file. Whoever keeps its
// descriptor knows it when the process is killed at any moment: a leg is noted as out before a
// change that it missed is answered. A process that prepares to go on with the mirror may hold the
// same file while the one before still uses it.
class MirrorState {
 public:
  static constexpr std::size_t kMaxLegs = 64;

  // `legs` is 2 to kMaxLegs.
  static absl::StatusOr<std::shared_ptr<MirrorState>> Create(std::size_t legs);
  // One that Create made in another process; an error if it is of another number of legs.
  static absl::StatusOr<std::shared_ptr<MirrorState>> Adopt(std::size_t legs, UniqueFd memory);
  ~MirrorState();
  MirrorState(const MirrorState&) = delete;
  MirrorState& operator=(const MirrorState&) = delete;

  int fd() const { return fd_.get(); }
  // Whether the mirror was in use before this process.
  bool adopted() const { return adopted_; }

  // For the first channel of all there ever were, nothing for others: notes what the legs can do,
  // and all but the first as out if they are to become copies of it.
  void Begin(std::span<const Limits> legs, bool copy);
  // What the leg could do then.
  Limits LimitsOf(std::size_t leg) const;

  // Legs, a bit each. At least one is always in sync.
  uint64_t in_sync() const { return all_ & ~words_[kOut].load(); }
  uint64_t copied_to() const { return copied_to_.load(); }
  uint64_t copied_bytes() const { return copied_bytes_.load(std::memory_order_relaxed); }

  // The leg missed something. False if it was out already, or is the last one in sync, which stays.
  bool TakeOut(std::size_t leg);

  // A channel comes, which has at most so many ranges at once, and goes with all it had here.
  void Join(std::size_t ranges);
  void Part(const void* channel, std::size_t ranges);
  // Whether there is more than one, which can end what another one waits for.
  bool shared() const { return channels_.load(std::memory_order_relaxed) > 1; }

  // A change begins, and is to be sent to these legs; false while another one overlaps it.
  bool StartChange(RangeLocks::Owner owner, uint64_t offset, uint64_t length, uint64_t* legs);
  // All legs that it was sent to have answered, those of `good` with success. Takes out those that
  // differ now from what is in sync, and says whether a leg that is in sync has the change.
  bool Settle(uint64_t sent, uint64_t good);
  void EndChange(RangeLocks::Owner owner);

  // Copying to a leg that is out: by one channel at a time, piece by piece. Changes go to the leg
  // from now on, and new ones of a piece wait for the piece; so it cannot be kept waiting forever.
  bool StartCopy(RangeLocks::Owner owner, std::size_t leg, uint64_t length);
  bool PieceIsQuiet(RangeLocks::Owner owner, uint64_t offset, uint64_t length);
  void NextPiece(RangeLocks::Owner owner, uint64_t offset, uint64_t length);
  // All is copied; false if the leg missed a change meanwhile.
  bool FinishCopy(std::size_t leg);
  void EndCopy(RangeLocks::Owner owner);

 private:
  using Word = std::atomic<uint64_t>;
  static_assert(Word::is_always_lock_free);
  // Of the memory file: then come those of each leg.
  enum : std::size_t { kMagic, kLegs, kBegun, kOut, kFirstLeg };

  static uint64_t Bit(std::size_t leg) { return uint64_t{1} << leg; }
  static absl::StatusOr<std::shared_ptr<MirrorState>> Map(std::size_t legs, UniqueFd memory);
  MirrorState(UniqueFd fd, void* memory, std::size_t legs);
  std::span<Word> WordsOf(std::size_t leg) const;

  UniqueFd fd_;
  Word* const words_;
  const std::size_t legs_;
  const uint64_t all_;
  bool adopted_ = false;
  std::atomic<uint64_t> copied_to_{0};  // changed with the mutex held
  std::atomic<uint64_t> copied_bytes_{0};
  std::atomic<std::size_t> channels_{0};
  Mutex mutex_;
  const void* copier_ ABSL_GUARDED_BY(mutex_) = nullptr;
  RangeLocks ranges_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_MIRROR_STATE_H_
