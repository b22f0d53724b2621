// Loss and return of the peer.

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "oxmem/channel/tloe_channel.h"
#include "oxmem/tloe/frame.h"
#include "oxmem/tloe/long_frames.h"
#include "transport/base/size.h"

namespace oxmem::channel {
namespace {

using transport::Code;
using transport::Op;

constexpr Duration kFirstPause = Duration::Milliseconds(20);
constexpr Duration kLongestPause = Duration::Seconds(1);
// Without any answer: until the peer is asked for a sign of life, and until what it sends is taken
// to be too long for the way.
constexpr Duration kAnswerPatience = Duration::Milliseconds(100);
constexpr Duration kAnswersLost = Duration::Seconds(1);
// Of the ten probes of that time so many in a row must be answered before the next.
constexpr int kPromptSigns = 8;

const char* ReasonOf(tloe::Failure failure) {
  switch (failure) {
    case tloe::Failure::kNone:
    case tloe::Failure::kNoAnswer:
      return "no answer";
    case tloe::Failure::kPeerClosed:
      return "it closed the connection";
    case tloe::Failure::kPeerRestarted:
      return "it was restarted";
    case tloe::Failure::kOtherProtocol:
      return "it speaks another protocol now";
    case tloe::Failure::kLongFramesLost:
      return "long frames do not arrive";
    case tloe::Failure::kViolation:
      return "it broke the protocol";
  }
  return "";
}

// Beside the data: header and address of a put, header of an answer.
constexpr std::size_t kPutFlits = 2;
constexpr std::size_t kAnswerFlits = 1;

// Reads up to this (log2) are small enough for any frame.
constexpr uint8_t kSmallRead = 6;

// log2 of the data that a message of at most this many flits carries beside `overhead` others.
uint8_t LargestSizeWithin(std::size_t flits, std::size_t overhead) {
  OXMEM_CHECK(flits > overhead);
  return static_cast<uint8_t>(std::bit_width(flits - overhead) - 1 + 3);
}

std::size_t AnswerFrameBytes(uint8_t size) {
  return tloe::kFrameOverheadBytes + kAnswerFlits * tilelink::kFlitBytes + (std::size_t{1} << size);
}

uint8_t LargestAnswerIn(std::size_t frame_bytes) {
  return LargestSizeWithin((frame_bytes - tloe::kFrameOverheadBytes) / tilelink::kFlitBytes,
                           kAnswerFlits);
}

}  // namespace

void TloeChannel::MaintainConnection(Instant now) {
  if (closed_) return;
  switch (engine_.state()) {
    case tloe::State::kOpen:
      if (!was_connected_ || lost_) OnConnected(now);
      return;
    case tloe::State::kFailed:
      if (engine_.failure() == tloe::Failure::kLongFramesLost) {
        ShortenFrames(engine_.lost_frame_bytes(), "do not arrive there");
      }
      OnLost(now, engine_.failure());
      return;
    case tloe::State::kClosed:
      OnLost(now, engine_.failure());
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

void TloeChannel::OnLost(Instant now, tloe::Failure why) {
  last_failure_ = why;
  if (!lost_) {
    lost_ = true;
    lost_since_ = now;
    // A peer that accepts and ends one connection after the other is not asked without end.
    if (now - connected_at_ >= kLongestPause) reopen_pause_ = Duration();
    if (was_connected_ && why != tloe::Failure::kLongFramesLost) LogLoss(now, why);
  }
  SendFrames(now);  // a last acknowledgement of the peer's close, or this end's own
  engine_.Reset();
  StartAgain(now);
  reopen_at_ = now + reopen_pause_;
  reopen_pause_ = std::clamp(reopen_pause_ * 2, kFirstPause, kLongestPause);
}

void TloeChannel::LogLoss(Instant now, tloe::Failure why) {
  uint64_t more = 0;
  loss_said_ = loss_log_.Allow(now, &more);
  if (!loss_said_) return;
  spdlog::warn("{}: peer lost: {}{}", name_, ReasonOf(why),
               more == 0 ? "" : absl::StrCat(" (", more, " times more since the last line)"));
}

void TloeChannel::OnConnected(Instant now) {
  if (was_connected_) {
    stats_.reconnects.Increment();
    if (loss_said_) {
      spdlog::info("{}: peer is back after {:.3g} s", name_, (now - lost_since_).seconds());
    }
  }
  connected_at_ = now;
  LimitMessages();
  was_connected_ = true;
  lost_ = false;
  last_failure_ = tloe::Failure::kNone;
}

// A peer may take shorter frames than the link does.
void TloeChannel::LimitMessages() {
  largest_message_size_ =
      std::min(wanted_message_size_, LargestSizeWithin(engine_.max_message_flits(), kPutFlits));
  largest_read_size_ = std::min(largest_message_size_, engine_.largest_answer_size());
  write_fill_ = read_fill_ = FrameFill();
  if (!engine_.packs_frames()) return;
  const std::size_t flits = engine_.max_message_flits();
  const auto starts = static_cast<std::size_t>(options_.engine.max_start_of_message_flit);
  write_fill_ = FillFor(flits, kPutFlits, largest_message_size_, starts);
  read_fill_ = FillFor(flits, kAnswerFlits, largest_read_size_, starts);
}

void TloeChannel::LimitFrames(std::size_t frame_bytes) {
  engine_.LimitFrames(frame_bytes);
  LimitMessages();
}

void TloeChannel::ShortenFrames(std::size_t lost_bytes, const char* which) {
  const std::size_t limit = tloe::FrameBytesBelow(lost_bytes);
  spdlog::error(
      "{}: frames of {} bytes {}, shorter ones do: going on with {} at most (is the MTU there or "
      "on the way smaller? use one MTU everywhere, or mtu={})",
      name_, lost_bytes, which, limit, limit);
  engine_.LimitFrames(limit);
}

// When a request waits for long, the peer is asked whether it still knows the connection: an answer
// to what it has acknowledged is its business alone. If it does, and still sends nothing, what it
// has to send may be too long for the way. Or the way is slow and has not brought it yet: then
// there are times when nothing comes, requests that are not acknowledged, or long frames of the
// peer that others before them make useless.
void TloeChannel::LookForAnswers(Instant now) {
  look_at_ = Instant::Never();
  if (engine_.state() != tloe::State::kOpen || requests_.oldest() == RequestTable::kNone) return;
  const Instant since = std::max(requests_[requests_.oldest()].submitted, last_answer_);
  const bool probed = probed_at_ >= since;
  look_at_ = (probed ? probed_at_ : since) + kAnswerPatience;
  if (now < look_at_) return;
  const bool prompt = probed && engine_.idle() && engine_.last_sign_of_life() > probed_at_;
  prompt_signs_ = prompt ? prompt_signs_ + 1 : 0;
  if (prompt_signs_ >= kPromptSigns && now >= since + kAnswersLost) {
    if (const std::size_t bytes = TooLongAnswer(); bytes != 0) {
      ShortenFrames(bytes, "do not come from there");
      engine_.Close(now);
      OnLost(now, tloe::Failure::kLongFramesLost);
      return;
    }
  }
  engine_.Probe(now);
  probed_at_ = now;
  look_at_ = now + kAnswerPatience;
}

// The length of the frame that the oldest request waits for, if none so long ever came, in its turn
// or not. 0: nothing that could be too long.
std::size_t TloeChannel::TooLongAnswer() {
  const ActiveRequest& oldest = requests_[requests_.oldest()];
  if (oldest.request.op != Op::kRead) return 0;
  const auto whole = static_cast<uint8_t>(std::bit_width(oldest.request.length) - 1);
  const uint8_t size = std::min(whole, LargestReadOf(oldest));
  const std::size_t bytes = AnswerFrameBytes(size);
  if (size <= longest_answer_ || bytes <= engine_.longest_frame_received()) return 0;
  return bytes >= tloe::kLongFrameBytes ? bytes : 0;
}

// A Get that is denied without data may just ask for more than a frame of the peer holds. True if
// its request starts again and asks for less at a time.
bool TloeChannel::AskForLess(uint32_t request_index, uint8_t refused_size) {
  ActiveRequest& active = requests_[request_index];
  if (refused_size <= kSmallRead || active.code != Code::kOk) return false;
  active.shorter_frames =
      static_cast<uint32_t>(tloe::FrameBytesBelow(AnswerFrameBytes(refused_size)));
  active.refused_size = refused_size;
  ReleaseMessages(request_index);
  active.sent = 0;
  active.answered = 0;
  requests_.RewindUnsent();
  return true;
}

uint8_t TloeChannel::LargestReadOf(const ActiveRequest& active) const {
  if (active.shorter_frames == 0) return largest_read_size_;
  return std::min(largest_read_size_, LargestAnswerIn(active.shorter_frames));
}

// The request was denied when it asked for more, and not now: it was the length.
void TloeChannel::OnShorterFrames(const ActiveRequest& active, const MessageSlot& slot) {
  const std::size_t limit = active.shorter_frames;
  const uint8_t size = LargestAnswerIn(limit);
  if (slot.size < size || largest_read_size_ <= size) return;
  spdlog::error(
      "{}: it refuses to answer {} in one frame, and answers {}: going on with frames of "
      "{} bytes at most (is its MTU smaller? use one MTU everywhere, or mtu={})",
      name_, FormatSize(uint64_t{1} << active.refused_size), FormatSize(uint64_t{1} << size), limit,
      limit);
  LimitFrames(limit);
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
  if (last_failure_ == tloe::Failure::kOtherProtocol) {
    const bool is_11 = options_.engine.protocol == tloe::Protocol::k11;
    return absl::UnavailableError(absl::StrCat(
        "tloe: ", peer, " on ", link_->name(), " speaks OmniXtend ",
        is_11 ? "1.0.3 only (add protocol=1.0.3)" : "1.1 only (leave protocol=1.0.3 out)"));
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
