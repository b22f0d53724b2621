#include "transport/compose/mirrored_channel.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/api/accounting.h"
#include "transport/api/validate.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

constexpr std::size_t kBatch = 32;
constexpr uint32_t kMaxDepth = 1024;
constexpr uint64_t kSpreadBytes = 1 << 20;
constexpr Duration kCheckInterval = Duration::Milliseconds(50);
constexpr Duration kRetryInterval = Duration::Milliseconds(1);

Limits MirroredLimits(const Legs& legs) {
  Limits limits = legs.CommonLimits();
  uint32_t depth = kMaxDepth;
  for (std::size_t i = 0; i < legs.size(); ++i) depth = std::min(depth, legs[i].limits().depth);
  limits.depth = depth;
  return limits;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MirroredChannel>> MirroredChannel::Create(
    std::vector<std::unique_ptr<Channel>> legs, MirrorOptions options) {
  if (legs.size() < 2 || legs.size() > kMaxLegs) {
    return absl::InvalidArgumentError(
        absl::StrCat("a mirror has 2 to ", kMaxLegs, " legs, not ", legs.size()));
  }
  if (options.state == nullptr) {
    OXMEM_ASSIGN_OR_RETURN(options.state, MirrorState::Create(legs.size()));
  }
  OXMEM_ASSIGN_OR_RETURN(Legs checked, Legs::Create(std::move(legs)));
  return std::unique_ptr<MirroredChannel>(
      new MirroredChannel(std::move(checked), std::move(options)));
}

MirroredChannel::MirroredChannel(Legs legs, MirrorOptions options)
    : options_(std::move(options)),
      limits_(MirroredLimits(legs)),
      // One place more than requests, for the resync.
      state_(options_.state, this, limits_.depth + 1),
      legs_(std::move(legs)),
      name_(legs_.Name("mirror")),
      states_(legs_.size(), Leg(limits_.depth + 1)),
      slots_(limits_.depth),
      waiting_(limits_.depth),
      done_(limits_.depth) {
  std::vector<Limits> limits;
  for (std::size_t leg = 0; leg < legs_.size(); ++leg) {
    states_[leg].reconnects_seen = legs_[leg].stats().reconnects.value();
    limits.push_back(legs_[leg].limits());
    limits.back().size_bytes = limits_.size_bytes;  // more is of no use
  }
  state_->Begin(limits, options_.copy_at_open && !limits_.read_only);
  NoticeOthers();
}

void MirroredChannel::NoticeOthers() {
  if (next_check_.is_never() && !closed_ && state_->in_sync() != all_legs()) {
    next_check_ = Instant();
  }
}

std::size_t MirroredChannel::Submit(std::span<const Request> requests) {
  if (requests.empty()) return 0;
  const Instant now = options_.clock();
  std::size_t taken = 0;
  for (const Request& request : requests) {
    if (in_flight_ == limits_.depth) break;
    ++in_flight_;
    ++taken;
    const Code code = closed_ ? Code::kClosed : Validate(request, limits_);
    if (code == Code::kOk && (request.length != 0 || request.op == Op::kFlush)) {
      Accept(request, now);
      continue;
    }
    CountCompletion(stats_, request.op, code, 0, Duration());
    done_.Push({.cookie = request.cookie, .code = code});
  }
  stats_.in_flight.Set(in_flight_);
  for (std::size_t leg = 0; leg < legs_.size(); ++leg) Issue(leg);
  PlanRetry(now);
  return taken;
}

void MirroredChannel::Accept(const Request& request, Instant now) {
  const uint32_t slot = slots_.Take();
  slots_[slot].request = request;
  slots_[slot].start = now;
  // A change or a flush does not overtake one that waits; a read may.
  const bool in_order = ChangesMemory(request.op) || request.op == Op::kFlush;
  if ((in_order && !waiting_.empty()) || !Start(slot)) waiting_.Push(slot);
}

bool MirroredChannel::Start(uint32_t slot) {
  Slot& state = slots_[slot];
  if (state.request.op == Op::kRead || state.request.op == Op::kPrefetch) {
    SendTo(ReadLeg(state), slot);
    return true;
  }
  uint64_t targets = state_->in_sync() | state_->copied_to();
  if (ChangesMemory(state.request.op) &&
      !state_->StartChange(OwnerOf(slot), state.request.offset, state.request.length, &targets)) {
    return false;
  }
  for (std::size_t leg = 0; leg < states_.size(); ++leg) {
    if ((targets & Bit(leg)) != 0) SendTo(leg, slot);
  }
  return true;
}

void MirroredChannel::StartWaiting() {
  while (!waiting_.empty() && Start(waiting_.front())) waiting_.Pop();
}

void MirroredChannel::PlanRetry(Instant now) {
  const bool waits = !waiting_.empty() || resync_.step == ResyncStep::kWaitForRange;
  next_try_ = waits && state_->shared() ? now + kRetryInterval : Instant::Never();
}

// The leg for a read: in sync, not tried before, better one that is not suspect; kMaxLegs if there
// is none.
std::size_t MirroredChannel::ReadLeg(const Slot& slot) const {
  const std::size_t first = options_.read == MirrorOptions::Read::kSpread
                                ? slot.request.offset / kSpreadBytes % states_.size()
                                : 0;
  const uint64_t choice = state_->in_sync() & ~slot.tried;
  std::size_t second_choice = kMaxLegs;
  for (std::size_t i = 0; i < states_.size(); ++i) {
    const std::size_t leg = (first + i) % states_.size();
    if ((choice & Bit(leg)) == 0) continue;
    if (!states_[leg].suspect) return leg;
    if (second_choice == kMaxLegs) second_choice = leg;
  }
  return second_choice;
}

void MirroredChannel::SendTo(std::size_t leg, uint32_t slot) {
  slots_[slot].pending |= Bit(leg);
  slots_[slot].tried |= Bit(leg);
  states_[leg].queue.Push(slot);
}

void MirroredChannel::Issue(std::size_t leg) {
  FixedQueue<uint32_t>& queue = states_[leg].queue;
  while (!queue.empty()) {
    std::array<Request, kBatch> batch;
    const std::size_t count = std::min(queue.size(), batch.size());
    for (std::size_t i = 0; i < count; ++i) {
      const uint32_t slot = queue[i];
      batch[i] = slot == limits_.depth ? ResyncRequest() : slots_[slot].request;
      batch[i].cookie = slot;
    }
    const std::size_t taken = legs_[leg].Submit(std::span(batch).first(count));
    for (std::size_t i = 0; i < taken; ++i) queue.Pop();
    if (taken < count) return;
  }
}

std::size_t MirroredChannel::Poll(std::span<Completion> completions) {
  std::array<Completion, kBatch> parts;
  for (std::size_t leg = 0; leg < legs_.size(); ++leg) {
    std::size_t count = parts.size();
    while (count == parts.size()) {
      count = legs_[leg].Poll(parts);
      // Before its answers are believed: they may come from a peer that has forgotten everything.
      NoticeReconnect(leg);
      if (count == 0) break;
      const Instant now = options_.clock();
      for (const Completion& part : std::span(parts).first(count)) {
        FinishPart(leg, part, now);
        if (part.code == Code::kTimedOut || part.code == Code::kPeerLost) {
          FailQueued(leg, part, now);
        }
      }
    }
  }
  NoticeOthers();
  if (!next_check_.is_never()) CheckLegs(options_.clock());
  AdvanceResync();
  StartWaiting();
  for (std::size_t leg = 0; leg < legs_.size(); ++leg) Issue(leg);
  PlanRetry(options_.clock());
  legs_.SumReconnects(stats_);
  const std::size_t count = done_.Pop(completions);
  in_flight_ -= count;
  stats_.in_flight.Set(in_flight_);
  return count;
}

void MirroredChannel::NoticeReconnect(std::size_t leg) {
  const uint64_t reconnects = legs_[leg].stats().reconnects.value();
  if (reconnects == states_[leg].reconnects_seen) return;
  states_[leg].reconnects_seen = reconnects;
  // Memory that outlives its process is still there; memory that nobody may write is the peer's
  // business.
  if (legs_[leg].limits().persistent || limits_.read_only) return;
  TakeOut(leg, "its peer came back and may have lost the memory");
}

void MirroredChannel::FinishPart(std::size_t leg, const Completion& completion, Instant now) {
  if (completion.cookie == limits_.depth) {
    FinishResyncPart(leg, completion);
    return;
  }
  const auto slot = static_cast<uint32_t>(completion.cookie);
  Slot& state = slots_[slot];
  state.pending &= ~Bit(leg);
  if (completion.code == Code::kOk) {
    state.good |= Bit(leg);
  } else if (state.code == Code::kOk) {
    state.code = completion.code;
    state.provider_code = completion.provider_code;
  }
  if (state.request.op == Op::kRead || state.request.op == Op::kPrefetch) {
    FinishRead(leg, slot, completion, now);
  } else {
    FinishChange(leg, slot, completion, now);
  }
}

// What waits behind a leg whose peer is gone would only start its own timeout after this one.
// Flushes stay: they must not complete before what the leg has taken already.
void MirroredChannel::FailQueued(std::size_t leg, const Completion& cause, Instant now) {
  FixedQueue<uint32_t>& queue = states_[leg].queue;
  for (std::size_t left = queue.size(); left > 0; --left) {
    const uint32_t slot = queue.front();
    queue.Pop();
    const bool is_flush = slot == limits_.depth ? resync_.step == ResyncStep::kFlushing
                                                : slots_[slot].request.op == Op::kFlush;
    if (is_flush) {
      queue.Push(slot);
      continue;
    }
    FinishPart(leg, {.cookie = slot, .code = cause.code, .provider_code = cause.provider_code},
               now);
  }
}

void MirroredChannel::FinishRead(std::size_t leg, uint32_t slot, const Completion& completion,
                                 Instant now) {
  const bool believed = completion.code == Code::kOk && IsInSync(leg);
  if (believed) {
    Complete(slot, Code::kOk, now);
    return;
  }
  if (completion.code != Code::kOk) {
    states_[leg].suspect = true;
    next_check_ = std::min(next_check_, now + kCheckInterval);
  }
  const std::size_t other = closed_ ? kMaxLegs : ReadLeg(slots_[slot]);
  if (other != kMaxLegs) {
    SendTo(other, slot);
    return;
  }
  // An answer from a leg that went out meanwhile, and no other leg has one.
  const Code code = slots_[slot].code == Code::kOk ? Code::kPeerLost : slots_[slot].code;
  Complete(slot, code, now);
}

void MirroredChannel::FinishChange(std::size_t leg, uint32_t slot, const Completion& completion,
                                   Instant now) {
  Slot& state = slots_[slot];
  if (completion.code == Code::kOk) {
    // Of the legs' equal answers the first leg's counts, so that channels that share the legs
    // agree on who found what.
    if (IsInSync(leg) && leg < state.old_value_leg) {
      state.old_value_leg = leg;
      state.old_value = completion.old_value;
    }
  } else if (completion.code != Code::kClosed) {
    TakeOut(leg, CodeName(completion.code));
  }
  if (state.pending != 0) return;
  // Legs that failed the change went out then, unless they were the last, and another leg's resync
  // may have ended since.
  const bool done =
      closed_ ? (state_->in_sync() & state.good) != 0 : state_->Settle(state.tried, state.good);
  if (ChangesMemory(state.request.op)) state_->EndChange(OwnerOf(slot));
  Complete(slot, done ? Code::kOk : state.code, now);
}

void MirroredChannel::Complete(uint32_t slot, Code code, Instant now) {
  Slot& state = slots_[slot];
  const bool moves_bytes = code == Code::kOk && state.request.op != Op::kFlush;
  const uint64_t bytes = moves_bytes ? state.request.length : 0;
  CountCompletion(stats_, state.request.op, code, bytes, now - state.start);
  done_.Push({.cookie = state.request.cookie,
              .bytes = bytes,
              .old_value = code == Code::kOk ? state.old_value : 0,
              .code = code,
              .provider_code = code == Code::kOk ? 0 : state.provider_code});
  slots_.Give(slot);
}

bool MirroredChannel::Arm() {
  legs_.SumWireStats(stats_);
  return done_.empty() && legs_.Arm();
}

Instant MirroredChannel::next_deadline() const {
  return std::min({legs_.next_deadline(), next_check_, next_try_});
}

void MirroredChannel::Close() {
  if (closed_) return;
  closed_ = true;
  next_check_ = Instant::Never();
  legs_.Close();
  // What waits now goes to the closed legs, which complete it; so nothing overtakes anything.
}

}  // namespace oxmem::transport
