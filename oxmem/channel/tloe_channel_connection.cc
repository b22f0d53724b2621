// Loss and return of the peer.

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "oxmem/channel/tloe_channel.h"

namespace oxmem::channel {
namespace {

using transport::Code;
using transport::Op;

constexpr Duration kFirstPause = Duration::Milliseconds(20);
constexpr Duration kLongestPause = Duration::Seconds(1);

const char* ReasonOf(tloe::Failure failure) {
  switch (failure) {
    case tloe::Failure::kNone:
    case tloe::Failure::kNoAnswer:
      return "no answer";
    case tloe::Failure::kPeerClosed:
      return "it closed the connection";
    case tloe::Failure::kPeerRestarted:
      return "it was restarted";
    case tloe::Failure::kViolation:
      return "it broke the protocol";
  }
  return "";
}

// Beside the data: header and address of a put, header of an answer.
constexpr std::size_t kPutFlits = 2;
constexpr std::size_t kAnswerFlits = 1;

// log2 of the data that a put of at most this many flits carries.
uint8_t LargestSizeWithin(std::size_t flits) {
  OXMEM_CHECK(flits > kPutFlits);
  return static_cast<uint8_t>(std::bit_width(flits - kPutFlits) - 1 + 3);
}

}  // namespace

void TloeChannel::MaintainConnection(Instant now) {
  if (closed_) return;
  switch (engine_.state()) {
    case tloe::State::kOpen:
      if (!was_connected_ || lost_) OnConnected(now);
      return;
    case tloe::State::kFailed:
    case tloe::State::kClosed:
      OnLost(now);
      return;
    case tloe::State::kIdle:
      if (reopen_at_ <= now) {
        reopen_at_ = Instant::Never();
        engine_.Open(now);
      }
      return;
    case tloe::State::kOpening:
    case tloe::State::kClosing:
      return;
  }
}

void TloeChannel::OnLost(Instant now) {
  last_failure_ = engine_.failure();
  if (!lost_) {
    lost_ = true;
    lost_since_ = now;
    reopen_pause_ = Duration();
    if (was_connected_) spdlog::warn("{}: peer lost: {}", name_, ReasonOf(last_failure_));
  }
  SendFrames(now);  // a last acknowledgement of the peer's close
  engine_.Reset();
  StartAgain(now);
  reopen_at_ = now + reopen_pause_;
  reopen_pause_ = std::clamp(reopen_pause_ * 2, kFirstPause, kLongestPause);
}

void TloeChannel::OnConnected(Instant now) {
  if (was_connected_) {
    stats_.reconnects.Increment();
    spdlog::info("{}: peer is back after {:.3g} s", name_, (now - lost_since_).seconds());
  }
  LimitMessages();
  was_connected_ = true;
  lost_ = false;
  last_failure_ = tloe::Failure::kNone;
}

// A peer may take shorter frames than the link does.
void TloeChannel::LimitMessages() {
  largest_message_size_ =
      std::min(wanted_message_size_, LargestSizeWithin(engine_.max_message_flits()));
  largest_read_size_ = std::min(largest_message_size_, engine_.largest_answer_size());
  write_fill_ = read_fill_ = FrameFill();
  if (!engine_.packs_frames()) return;
  const std::size_t flits = engine_.max_message_flits();
  const auto starts = static_cast<std::size_t>(options_.engine.max_start_of_message_flit);
  write_fill_ = FillFor(flits, kPutFlits, largest_message_size_, starts);
  read_fill_ = FillFor(flits, kAnswerFlits, largest_read_size_, starts);
}

// What the lost peer had answered in part is asked for again whole; nothing distinguishes a write
// that it applied from one that it did not, and writing the same bytes twice does no harm.
void TloeChannel::StartAgain(Instant now) {
  uint32_t next = RequestTable::kNone;
  for (uint32_t index = requests_.oldest(); index != RequestTable::kNone; index = next) {
    ActiveRequest& active = requests_[index];
    next = active.next;
    if (active.request.op == Op::kAtomic && active.sent > 0) {
      Finish(now, index, Code::kPeerLost);
      continue;
    }
    if (active.code != Code::kOk) {
      Finish(now, index, active.code);
      continue;
    }
    ReleaseMessages(index);
    active.sent = 0;
    active.answered = 0;
  }
  requests_.RewindUnsent();
  FinishFlushes(now);
}

void TloeChannel::CopyEngineStats() {
  const tloe::EngineStats& from = engine_.stats();
  stats_.frames_sent = from.frames_sent;
  stats_.frames_received = from.frames_received;
  stats_.wire_bytes_sent = from.bytes_sent;
  stats_.wire_bytes_received = from.bytes_received;
  stats_.resends = from.resends;
  stats_.naks_sent = from.naks_sent;
  stats_.naks_received = from.naks_received;
  stats_.duplicates = from.duplicates;
  stats_.malformed = from.malformed;
  stats_.credit_stalls = from.credit_stalls;
  stats_.window_stalls = from.window_stalls;
}

absl::Status TloeChannel::health() const {
  if (closed_) return absl::FailedPreconditionError(absl::StrCat(name_, ": closed"));
  if (!link_status_.ok()) return link_status_;
  if (absl::Status link = link_->health(); !link.ok()) return link;
  if (connected()) return absl::OkStatus();
  const std::string peer = link_->FormatAddress(peer_);
  if (last_failure_ == tloe::Failure::kPeerClosed) {
    return absl::UnavailableError(
        absl::StrCat("tloe: ", peer, " on ", link_->name(),
                     " closes the connection (is its list of allowed addresses right?)"));
  }
  if (last_failure_ == tloe::Failure::kViolation) {
    return absl::UnavailableError(
        absl::StrCat("tloe: ", peer, " on ", link_->name(),
                     " does not follow the protocol (try protocol=1.0.3, or another peer=)"));
  }
  if (was_connected_) {
    return absl::UnavailableError(
        absl::StrCat("tloe: no answer from ", peer, " on ", link_->name(),
                     " any more (link is up; does the endpoint still run?)"));
  }
  return absl::UnavailableError(absl::StrFormat(
      "tloe: no answer from %s on %s within %.3g s (link is up; is the endpoint's address right, "
      "and does it run?)",
      peer, link_->name(), options_.connect_timeout.seconds()));
}

}  // namespace oxmem::channel
