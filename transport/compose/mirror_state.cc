#include "transport/compose/mirror_state.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

constexpr uint64_t kMagicNumber = 0x6f786d656d4d5231;  // "oxmemMR1": another layout, another number
constexpr std::size_t kLegWords = 6;
constexpr std::size_t kBytes = 4096;

uint64_t FlagsOf(const Limits& limits) {
  return (limits.read_only ? 1u : 0u) | (limits.zero ? 2u : 0u) | (limits.prefetch ? 4u : 0u) |
         (limits.needs_registration ? 8u : 0u) | (limits.persistent ? 16u : 0u);
}

uint64_t BitsOf(const AtomicOps& atomics) {
  uint64_t bits = 0;
  for (unsigned i = 0; i < kAtomicOpCount; ++i) {
    if (atomics.Has(static_cast<AtomicOp>(i))) bits |= uint64_t{1} << i;
  }
  return bits;
}

AtomicOps AtomicsOf(uint64_t bits) {
  AtomicOps atomics;
  for (unsigned i = 0; i < kAtomicOpCount; ++i) {
    if ((bits >> i & 1) != 0) atomics = atomics.With(static_cast<AtomicOp>(i));
  }
  return atomics;
}

}  // namespace

absl::StatusOr<std::shared_ptr<MirrorState>> MirrorState::Create(std::size_t legs) {
  UniqueFd fd(memfd_create("oxmem-mirror", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() || ftruncate(fd.get(), kBytes) != 0 ||
      fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return ErrnoStatus(errno, "memory for the state of a mirror");
  }
  OXMEM_ASSIGN_OR_RETURN(std::shared_ptr<MirrorState> state, Map(legs, std::move(fd)));
  state->words_[kLegs].store(legs);
  state->words_[kMagic].store(kMagicNumber);
  return state;
}

absl::StatusOr<std::shared_ptr<MirrorState>> MirrorState::Adopt(std::size_t legs, UniqueFd memory) {
  struct stat attributes;
  if (fstat(memory.get(), &attributes) != 0) return ErrnoStatus(errno, "the state of a mirror");
  const absl::Status other = absl::FailedPreconditionError(
      "what was kept of the mirror is of another one, or of another version of oxmem");
  const int seals = fcntl(memory.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || attributes.st_size != kBytes) return other;
  OXMEM_ASSIGN_OR_RETURN(std::shared_ptr<MirrorState> state, Map(legs, std::move(memory)));
  if (state->words_[kMagic].load() != kMagicNumber || state->words_[kLegs].load() != legs ||
      state->in_sync() == 0) {
    return other;
  }
  state->adopted_ = state->words_[kBegun].load() != 0;
  return state;
}

absl::StatusOr<std::shared_ptr<MirrorState>> MirrorState::Map(std::size_t legs, UniqueFd memory) {
  static_assert((kFirstLeg + kMaxLegs * kLegWords) * sizeof(Word) <= kBytes);
  OXMEM_CHECK(legs >= 2 && legs <= kMaxLegs);
  void* mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (mapped == MAP_FAILED) return ErrnoStatus(errno, "the state of a mirror");
  return std::shared_ptr<MirrorState>(new MirrorState(std::move(memory), mapped, legs));
}

MirrorState::MirrorState(UniqueFd fd, void* memory, std::size_t legs)
    : fd_(std::move(fd)),
      words_(static_cast<Word*>(memory)),
      legs_(legs),
      all_(legs == kMaxLegs ? ~uint64_t{0} : Bit(legs) - 1) {}

MirrorState::~MirrorState() { munmap(words_, kBytes); }

std::span<MirrorState::Word> MirrorState::WordsOf(std::size_t leg) const {
  OXMEM_CHECK(leg < legs_);
  return {words_ + kFirstLeg + leg * kLegWords, kLegWords};
}

void MirrorState::Begin(std::span<const Limits> legs, bool copy) {
  const MutexLock lock(&mutex_);
  if (words_[kBegun].load() != 0) return;
  OXMEM_CHECK(legs.size() == legs_);
  for (std::size_t leg = 0; leg < legs_; ++leg) {
    const std::span<Word> words = WordsOf(leg);
    words[0].store(legs[leg].size_bytes);
    words[1].store(legs[leg].alignment_bytes);
    words[2].store(legs[leg].largest_request_bytes);
    words[3].store(legs[leg].depth);
    words[4].store(FlagsOf(legs[leg]));
    words[5].store(BitsOf(legs[leg].atomics));
  }
  if (copy) words_[kOut].store(all_ & ~Bit(0));
  words_[kBegun].store(1);
}

Limits MirrorState::LimitsOf(std::size_t leg) const {
  const std::span<Word> words = WordsOf(leg);
  const uint64_t flags = words[4].load();
  return {.size_bytes = words[0].load(),
          .alignment_bytes = words[1].load(),
          .largest_request_bytes = words[2].load(),
          .depth = static_cast<uint32_t>(words[3].load()),
          .read_only = (flags & 1) != 0,
          .zero = (flags & 2) != 0,
          .prefetch = (flags & 4) != 0,
          .needs_registration = (flags & 8) != 0,
          .persistent = (flags & 16) != 0,
          .atomics = AtomicsOf(words[5].load()),
          .local_memory = {}};
}

bool MirrorState::TakeOut(std::size_t leg) {
  const MutexLock lock(&mutex_);
  uint64_t out = words_[kOut].load();
  // Another process may be at it too.
  while ((out & Bit(leg)) == 0) {
    if ((all_ & ~out) == Bit(leg)) return false;
    if (words_[kOut].compare_exchange_weak(out, out | Bit(leg))) return true;
  }
  return (copied_to_.fetch_and(~Bit(leg)) & Bit(leg)) != 0;
}

void MirrorState::Join(std::size_t ranges) {
  const MutexLock lock(&mutex_);
  ranges_.Reserve(ranges);
  ++channels_;
}

void MirrorState::Part(const void* channel, std::size_t ranges) {
  const MutexLock lock(&mutex_);
  ranges_.RemoveAll(channel, ranges);
  --channels_;
  if (copier_ != channel) return;
  copier_ = nullptr;
  copied_to_ = 0;
}

bool MirrorState::StartChange(RangeLocks::Owner owner, uint64_t offset, uint64_t length,
                              uint64_t* legs) {
  const MutexLock lock(&mutex_);
  if (ranges_.Overlaps(offset, length, owner)) return false;
  ranges_.Add(owner, offset, length);
  *legs = in_sync() | copied_to();
  return true;
}

bool MirrorState::Settle(uint64_t sent, uint64_t good) {
  const MutexLock lock(&mutex_);
  uint64_t out = words_[kOut].load();
  for (;;) {
    const uint64_t in_sync = all_ & ~out;
    const bool done = (in_sync & good) != 0;
    const uint64_t missed = done ? sent & ~good : all_ & ~std::bit_floor(in_sync);
    if ((out | missed) != out && !words_[kOut].compare_exchange_weak(out, out | missed)) continue;
    copied_to_ &= ~missed;
    return done;
  }
}

void MirrorState::EndChange(RangeLocks::Owner owner) {
  const MutexLock lock(&mutex_);
  ranges_.Remove(owner);
}

bool MirrorState::StartCopy(RangeLocks::Owner owner, std::size_t leg, uint64_t length) {
  const MutexLock lock(&mutex_);
  if (copier_ != nullptr || (in_sync() & Bit(leg)) != 0) return false;
  copier_ = owner.channel;
  copied_to_ = Bit(leg);
  copied_bytes_ = 0;
  ranges_.Add(owner, 0, length);
  return true;
}

bool MirrorState::PieceIsQuiet(RangeLocks::Owner owner, uint64_t offset, uint64_t length) {
  const MutexLock lock(&mutex_);
  return !ranges_.Overlaps(offset, length, owner);
}

void MirrorState::NextPiece(RangeLocks::Owner owner, uint64_t offset, uint64_t length) {
  const MutexLock lock(&mutex_);
  ranges_.Remove(owner);
  ranges_.Add(owner, offset, length);
  copied_bytes_ = offset;
}

bool MirrorState::FinishCopy(std::size_t leg) {
  const MutexLock lock(&mutex_);
  if ((copied_to() & Bit(leg)) == 0) return false;
  words_[kOut].fetch_and(~Bit(leg));
  copied_to_ = 0;
  return true;
}

void MirrorState::EndCopy(RangeLocks::Owner owner) {
  const MutexLock lock(&mutex_);
  OXMEM_CHECK(copier_ == owner.channel);
  ranges_.Remove(owner);
  copier_ = nullptr;
  copied_to_ = 0;
}

}  // namespace oxmem::transport
