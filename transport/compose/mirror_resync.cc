// The part of a mirror that notices lost legs and brings them back.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/base/check.h"
#include "transport/compose/mirrored_channel.h"

namespace oxmem::transport {
namespace {

constexpr Duration kCheckInterval = Duration::Milliseconds(50);
constexpr uint64_t kPieceBytes = 1 << 20;

}  // namespace

void MirroredChannel::TakeOut(std::size_t leg, const char* why) {
  if (!state_->TakeOut(leg)) return;
  const Instant now = options_.clock();
  next_check_ = std::min(next_check_, now + kCheckInterval);
  uint64_t suppressed = 0;
  if (log_limiter_.Allow(now, &suppressed)) {
    spdlog::warn("mirror: leg {} of {} ({}) is out of sync: {}", leg + 1, legs_.size(),
                 legs_[leg].name(), why);
  }
}

void MirroredChannel::CheckLegs(Instant now) {
  if (now < next_check_) return;
  bool look_again = false;
  for (std::size_t leg = 0; leg < states_.size(); ++leg) {
    Leg& state = states_[leg];
    const bool out = !IsInSync(leg);
    if (!state.suspect && !out) continue;
    look_again = true;
    if (!legs_[leg].health().ok()) continue;
    state.suspect = false;
    const bool can_copy = resync_.step == ResyncStep::kIdle && ResyncSource() != states_.size();
    if (out && can_copy) StartResync(leg);
  }
  next_check_ = look_again && !closed_ ? now + kCheckInterval : Instant::Never();
}

// A leg to copy from, or the number of legs.
std::size_t MirroredChannel::ResyncSource() const {
  std::size_t leg = 0;
  while (leg < states_.size() && (!IsInSync(leg) || states_[leg].suspect)) ++leg;
  return leg;
}

void MirroredChannel::StartResync(std::size_t leg) {
  const uint64_t alignment = limits_.alignment_bytes;
  const uint64_t piece =
      std::max(std::min(kPieceBytes, limits_.largest_request_bytes) / alignment, uint64_t{1}) *
      alignment;
  const uint64_t length = std::min(piece, limits_.size_bytes);
  if (!state_->StartCopy(OwnerOf(limits_.depth), leg, length)) return;  // another channel copies
  if (resync_.buffer.empty()) resync_.buffer.resize(piece);
  resync_.leg = leg;
  resync_.offset = 0;
  resync_.length = length;
  resync_.step = ResyncStep::kWaitForRange;
}

Request MirroredChannel::ResyncRequest() const {
  if (resync_.step == ResyncStep::kFlushing) return {.op = Op::kFlush};
  return {.op = resync_.step == ResyncStep::kReading ? Op::kRead : Op::kWrite,
          .offset = resync_.offset,
          .length = resync_.length,
          .buffer = const_cast<std::byte*>(resync_.buffer.data())};
}

// Begins to copy the piece once no change of it is under way.
void MirroredChannel::AdvanceResync() {
  if (resync_.step != ResyncStep::kWaitForRange) return;
  if (!IsCopiedTo(resync_.leg) || closed_) {
    EndResync();
    return;
  }
  if (!state_->PieceIsQuiet(OwnerOf(limits_.depth), resync_.offset, resync_.length)) return;
  const std::size_t source = ResyncSource();
  if (source == states_.size()) {
    TakeOut(resync_.leg, "no leg to copy from answers");
    EndResync();
    return;
  }
  resync_.step = ResyncStep::kReading;
  states_[source].queue.Push(limits_.depth);
}

void MirroredChannel::FinishResyncPart(std::size_t leg, const Completion& completion) {
  if (completion.code != Code::kOk) {
    if (leg == resync_.leg) {
      TakeOut(leg, CodeName(completion.code));
    } else {
      states_[leg].suspect = true;
    }
  }
  if (!IsCopiedTo(resync_.leg) || closed_) {
    EndResync();
    return;
  }
  switch (resync_.step) {
    case ResyncStep::kReading: {
      const bool believed = completion.code == Code::kOk && IsInSync(leg);
      resync_.step = believed ? ResyncStep::kWriting : ResyncStep::kWaitForRange;
      if (believed) states_[resync_.leg].queue.Push(limits_.depth);
      return;
    }
    case ResyncStep::kWriting:
      resync_.offset += resync_.length;
      resync_.length =
          std::min<uint64_t>(resync_.buffer.size(), limits_.size_bytes - resync_.offset);
      state_->NextPiece(OwnerOf(limits_.depth), resync_.offset, resync_.length);
      resync_.step = ResyncStep::kWaitForRange;
      if (resync_.length == 0) {
        resync_.step = ResyncStep::kFlushing;
        states_[resync_.leg].queue.Push(limits_.depth);
      }
      return;
    case ResyncStep::kFlushing:
      if (state_->FinishCopy(resync_.leg)) {
        spdlog::info("mirror: leg {} of {} ({}) is in sync again", resync_.leg + 1, legs_.size(),
                     legs_[resync_.leg].name());
      }
      EndResync();
      return;
    case ResyncStep::kIdle:
    case ResyncStep::kWaitForRange:
      break;
  }
  OXMEM_CHECK(false);
}

void MirroredChannel::EndResync() {
  state_->EndCopy(OwnerOf(limits_.depth));
  resync_.step = ResyncStep::kIdle;
  if (!closed_) next_check_ = std::min(next_check_, options_.clock() + kCheckInterval);
}

absl::Status MirroredChannel::health() const {
  std::string trouble;
  for (std::size_t leg = 0; leg < states_.size(); ++leg) {
    const absl::Status below = legs_[leg].health();
    const bool in_sync = IsInSync(leg);
    if (in_sync && below.ok()) continue;
    absl::StrAppend(&trouble, trouble.empty() ? "" : "; ", "leg ", leg + 1, " of ", states_.size(),
                    " (", legs_[leg].name(), ")");
    if (IsCopiedTo(leg)) {
      const double share =
          static_cast<double>(state_->copied_bytes()) / static_cast<double>(limits_.size_bytes);
      absl::StrAppendFormat(&trouble, " is being brought in sync (%d%%)",
                            static_cast<int>(share * 100));
    } else if (!in_sync) {
      absl::StrAppend(&trouble, " is out of sync and not used");
    }
    if (!below.ok()) absl::StrAppend(&trouble, ": ", std::string(below.message()));
  }
  if (trouble.empty()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("mirror: ", trouble));
}

}  // namespace oxmem::transport
