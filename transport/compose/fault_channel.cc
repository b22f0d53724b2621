#include "transport/compose/fault_channel.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/api/accounting.h"
#include "transport/api/validate.h"
#include "transport/compose/random.h"

namespace oxmem::transport {
namespace {

constexpr std::size_t kBatch = 32;

}  // namespace

FaultChannel::FaultChannel(std::unique_ptr<Channel> below, FaultOptions options)
    : ShimChannel(std::move(below), "fault"),
      options_(std::move(options)),
      slots_(limits_.depth),
      lost_(limits_.depth),
      random_state_(options_.seed) {}

bool FaultChannel::Chance(double share) { return share > 0 && NextFraction(random_state_) < share; }

std::size_t FaultChannel::Submit(std::span<const Request> requests) {
  if (requests.empty()) return 0;
  const Instant now = options_.clock();
  std::size_t taken = 0;
  while (taken < requests.size() && in_flight_ < limits_.depth) {
    FollowTime(now);
    if (!AcceptOne(requests[taken], now)) break;
    ++taken;
    ++in_flight_;
    if (++accepted_ == options_.cut_after) {
      CutPeer();
      cut_until_ = now + options_.cut_for;
    }
    if (Chance(options_.short_submit)) break;
  }
  stats_.in_flight.Set(in_flight_);
  return taken;
}

bool FaultChannel::AcceptOne(const Request& request, Instant now) {
  const uint32_t index = slots_.Take();
  Slot& slot = slots_[index];
  slot.request = request;
  slot.start = now;
  const Code code = closed_ ? Code::kClosed : Validate(request, limits_);
  if (code != Code::kOk) {
    Finish(index, {.code = code}, now);
    return true;
  }
  if (cut_ || !lost_.empty()) {
    lost_.Push(index);
    return true;
  }
  const bool may_fail = accepted_ >= options_.skip && faults_ < options_.most;
  const bool fail = may_fail && Chance(options_.fail);
  if (fail && request.op != Op::kFlush) {
    ++faults_;
    Finish(index, {.code = options_.code}, now);
    return true;
  }
  Request sent = request;
  sent.cookie = index;
  if (below_->Submit({&sent, 1}) == 0) {
    slots_.Give(index);
    return false;
  }
  // A flush that failed at once would overtake what it has to wait for.
  slot.fail = fail || (may_fail && Chance(options_.fail_after));
  slot.corrupt = may_fail && !slot.fail && request.op == Op::kRead && request.length != 0 &&
                 Chance(options_.corrupt);
  if (slot.fail || slot.corrupt) ++faults_;
  return true;
}

std::size_t FaultChannel::Poll(std::span<Completion> completions) {
  std::array<Completion, kBatch> below;
  std::size_t count = below.size();
  while (count == below.size()) {
    count = below_->Poll(below);
    if (count == 0) break;
    const Instant now = options_.clock();
    for (const Completion& completion : std::span(below).first(count)) {
      Slot& slot = slots_[completion.cookie];
      Completion seen = completion;
      if (slot.fail && completion.code == Code::kOk) seen = {.code = options_.code};
      if (slot.corrupt && completion.code == Code::kOk) {
        const uint64_t bit = NextRandom(random_state_) % (slot.request.length * 8);
        slot.request.buffer[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      }
      Finish(static_cast<uint32_t>(completion.cookie), seen, now);
    }
  }
  if (cut_ || !lost_.empty()) FollowTime(options_.clock());
  stats_.reconnects.Set(below_->stats().reconnects.value() + restored_);
  return HandOut(completions);
}

void FaultChannel::Finish(uint32_t index, Completion completion, Instant now) {
  Slot& slot = slots_[index];
  completion.cookie = slot.request.cookie;
  CountCompletion(stats_, slot.request.op, completion.code, completion.bytes, now - slot.start);
  done_.Push(completion);
  slots_.Give(index);
}

// Ends the loss of the peer when its time has come. Requests to a lost peer time out; when it is
// back, those that are left are carried out in their order.
void FaultChannel::FollowTime(Instant now) {
  if (cut_ && now >= cut_until_) RestorePeer();
  while (!lost_.empty()) {
    const uint32_t index = lost_.front();
    if (closed_) {
      Finish(index, {.code = Code::kClosed}, now);
    } else if (!cut_) {
      Request sent = slots_[index].request;
      sent.cookie = index;
      if (below_->Submit({&sent, 1}) == 0) return;
    } else if (now >= slots_[index].start + options_.timeout) {
      Finish(index, {.code = Code::kTimedOut}, now);
    } else {
      return;
    }
    lost_.Pop();
  }
}

bool FaultChannel::Arm() {
  if (!done_.empty() || (!lost_.empty() && (closed_ || !cut_))) return false;
  return below_->Arm();
}

Instant FaultChannel::next_deadline() const {
  Instant deadline = below_->next_deadline();
  if (cut_) deadline = std::min(deadline, cut_until_);
  if (cut_ && !lost_.empty()) {
    deadline = std::min(deadline, slots_[lost_.front()].start + options_.timeout);
  }
  return deadline;
}

void FaultChannel::Close() {
  closed_ = true;
  below_->Close();
}

void FaultChannel::CutPeer() {
  cut_ = true;
  cut_until_ = Instant::Never();
}

void FaultChannel::RestorePeer() {
  if (!cut_) return;
  cut_ = false;
  cut_until_ = Instant::Never();
  ++restored_;
}

absl::Status FaultChannel::health() const {
  if (cut_) {
    return absl::UnavailableError(
        absl::StrCat(name_, ": the peer is lost (a fault that was asked for)"));
  }
  return below_->health();
}

}  // namespace oxmem::transport
