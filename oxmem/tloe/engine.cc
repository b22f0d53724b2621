#include "oxmem/tloe/engine.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "oxmem/tloe/engine_impl.h"
#include "transport/base/byte_order.h"
#include "transport/base/check.h"

namespace oxmem::tloe {
namespace {

constexpr int kCloseTries = 3;
constexpr int kFewDoublings = 1;
constexpr int kManyDoublings = 30;
// A long frame is not given up before this many initial resend timeouts.
constexpr int kLongFrameTimeouts = 5;

std::size_t FlitsOfFrame(std::size_t max_frame_bytes) {
  return (max_frame_bytes - kFrameOverheadBytes) / tilelink::kFlitBytes;
}

// The longest frame fits whatever lies in the ring of frames that wait for no acknowledgement.
std::size_t LeastResendBuffer(std::size_t max_frame_bytes) {
  return 2 * (max_frame_bytes + kMostUnawaited * kMinFrameBytes);
}

std::size_t RetainedBytes(const EngineConfig& config) {
  uint64_t flits = 0;
  for (const uint32_t channel : config.receive_flits) flits += channel;
  // A frame that ignores credits must still fit an empty buffer.
  return std::max<std::size_t>(flits, FlitsOfFrame(config.max_frame_bytes)) * tilelink::kFlitBytes;
}

}  // namespace

Engine::Impl::Impl(const EngineConfig& configuration)
    : config(configuration),
      profile(config.peer),
      traits(&TraitsOf(profile)),
      window(std::max(config.window_frames, kLeastWindowFrames),
             std::max(config.resend_buffer_bytes, LeastResendBuffer(config.max_frame_bytes))),
      max_frame_flits(FlitsOfFrame(config.max_frame_bytes)),
      round_trip(config.initial_resend_timeout, config.min_resend_timeout,
                 config.max_resend_timeout),
      retained(RetainedBytes(config)) {
  OXMEM_CHECK(config.max_frame_bytes >= kMinFrameBytes);
  OXMEM_CHECK(config.max_start_of_message_flit >= 1 && config.max_start_of_message_flit <= 64);
  OXMEM_CHECK(config.virtual_channel <= 7);
  Reset();
}

void Engine::Impl::Reset() {
  state = State::kIdle;
  failure = Failure::kNone;
  window.Reset(first_number());
  building = false;
  send_credits.Reset();
  round_trip.Reset();
  awaited_end = 0;
  timeouts = nak_rounds = 0;
  recovering = false;
  waits_for = Room::kNothing;
  probing = probe_wanted = ask_wanted = false;
  lost_frame_bytes = 0;
  malformed_seen = false;
  answer_numbers.Clear();
  receive.Reset(first_number(), false);
  ack.Reset();
  credit_deadline = Instant::Never();
  longest_received = 0;
  gap_open = false;
  suspicion.Reset();
  message_count = next_message = 0;
  retained.Clear();
  retained_peeked = has_current = false;
  answered = undecided = false;
  open_repeats = 0;
  close_wanted = false;
  close_deadline = Instant::Never();
  close_tries = 0;
  receive_credits.Reset(config.receive_flits, static_cast<uint32_t>(max_frame_flits));
  UseProfile(config.peer);
}

void Engine::Impl::UseProfile(PeerProfile chosen) {
  profile = chosen;
  traits = &TraitsOf(chosen);
  window.LimitFrames(traits->max_window_frames);
  max_frame_flits = std::min(FlitsOfFrame(config.max_frame_bytes), traits->max_frame_flits);
  send_credits.Enforce(traits->enforce_credits);
  if (traits->accepts_gaps) receive.AcceptGaps();
  if (!traits->credit_frames) credit_deadline = Instant::Never();
}

void Engine::Impl::Open(Instant now) {
  OXMEM_CHECK(config.role == Role::kInitiator && state == State::kIdle);
  state = State::kOpening;
  open_deadline = now + config.open_timeout;
  if (is_11()) {
    OXMEM_CHECK(BuildEmptyFrame(FrameType::kOpen));
  } else {
    // Nobody asks: both sides just begin by granting their credits.
    answered = true;
    BuildOpeningGrants();
  }
}

void Engine::Impl::BecomeOpen(Instant now) {
  state = State::kOpen;
  opened_at = now;
  undecided = false;
  if (profile == PeerProfile::kAuto) UseProfile(PeerProfile::kSpec);
}

void Engine::Impl::Close(Instant now) {
  switch (state) {
    case State::kIdle:
    case State::kOpening:
      state = State::kClosed;
      return;
    case State::kOpen:
      break;
    case State::kClosing:
    case State::kClosed:
    case State::kFailed:
      return;
  }
  if (building) CloseFrame();
  if (!is_11()) {
    state = State::kClosed;
    return;
  }
  state = State::kClosing;
  close_wanted = true;
  close_tries = 1;
  close_deadline = now + config.open_retry;
}

void Engine::Impl::Fail(Failure why) {
  state = State::kFailed;
  failure = why;
  // The peer may still be there, and learns this way that this side gave up.
  close_wanted = is_11() && why != Failure::kPeerRestarted && why != Failure::kOtherProtocol;
}

void Engine::Impl::OnDeadline(Instant now) {
  ForgetUnawaited();
  if (state == State::kClosing && now >= close_deadline) {
    if (close_tries >= kCloseTries) {
      state = State::kClosed;
      return;
    }
    ++close_tries;
    close_wanted = true;
    close_deadline = now + config.open_retry;
    return;
  }
  if (state != State::kOpening && state != State::kOpen) return;
  if (state == State::kOpening && now >= open_deadline) {
    Fail(Failure::kNoAnswer);
    return;
  }
  if (now >= ResendDeadline()) {
    OnResendTimeout(now);
  } else if (now >= ProbeDeadline()) {
    if (probing) OnTimeout(false, kManyDoublings);
    if (state == State::kOpen) Probe(now);
  }
}

// What the peer owes an acknowledgement; only when something is outstanding.
uint64_t Engine::Impl::OldestAwaited() const {
  uint64_t index = window.acknowledged();
  while (!window.At(index).awaited && index + 1 < window.sent()) ++index;
  return index;
}

bool Engine::Impl::MayBeTooLong(const SentFrame& frame) const {
  // A peer that has acknowledged nothing yet may be one that refuses (1.0.3).
  return frame.length >= kLongFrameBytes && window.acknowledged() > 0;
}

bool Engine::Impl::IsTooLong(Instant now, const SentFrame& frame) const {
  return MayBeTooLong(frame) &&
         too_long.IsCertain(now, config.initial_resend_timeout * kLongFrameTimeouts);
}

// What does not come after all was sent again once may wait in a queue, which copies of all make
// longer, or be too long. So from then on only the oldest frame goes out: those behind it are of no
// use to the peer before it has that one.
void Engine::Impl::OnResendTimeout(Instant now) {
  if (state != State::kOpen || traits->single_acks) {
    OnTimeout(false, kManyDoublings);
    if (state != State::kFailed) StartResend(now);
    return;
  }
  const uint64_t index = OldestAwaited();
  const SentFrame& oldest = window.At(index);
  const auto round = too_long.EndRound();
  if (IsTooLong(now, oldest)) {
    // If longer ones have arrived on this connection the way has changed, or there is another
    // reason: the next connection finds out.
    const bool new_length = oldest.length > window.longest_acknowledged();
    lost_frame_bytes = new_length ? oldest.length : 0;
    Fail(new_length ? Failure::kLongFramesLost : Failure::kNoAnswer);
    return;
  }
  const bool again = timeouts > 0 || recovering;
  OnTimeout(round == LongFrameSuspicion::Round::kPrompt, DoublingsAfter(round, oldest));
  if (state == State::kFailed) return;
  resend_base = now;
  if (!again) {
    window.StartResend();
    return;
  }
  // A short frame finds out whether the peer is there at all.
  ask_wanted = MayBeTooLong(oldest);
  if (ask_wanted) too_long.BeginRound(now, ResendTimeout());
  recovering = true;
  recovery_end = index + 1;
  window.StartResend(recovery_end);
}

void Engine::Impl::LimitFrames(std::size_t bytes) {
  OXMEM_CHECK(bytes >= kMinFrameBytes);
  config.max_frame_bytes = std::min(config.max_frame_bytes, bytes);
  max_frame_flits = std::min(max_frame_flits, FlitsOfFrame(config.max_frame_bytes));
}

// The first rounds are short, later ones as long as the way needs them.
int Engine::Impl::DoublingsAfter(LongFrameSuspicion::Round round, const SentFrame& oldest) const {
  switch (round) {
    case LongFrameSuspicion::Round::kNone:
      return timeouts > 0 && MayBeTooLong(oldest) ? kFewDoublings : kManyDoublings;
    case LongFrameSuspicion::Round::kPrompt:
    case LongFrameSuspicion::Round::kMissed:
      return kFewDoublings;
    case LongFrameSuspicion::Round::kSlow:
      break;
  }
  return kManyDoublings;
}

void Engine::Impl::OnTimeout(bool peer_is_there, int most_doublings) {
  stats.resend_timeouts.Increment();
  if (state == State::kOpen && !peer_is_there && ++timeouts > config.max_resends) {
    Fail(Failure::kNoAnswer);
    return;
  }
  round_trip.OnTimeout(most_doublings);
}

void Engine::Impl::Probe(Instant now) {
  // What is awaited already is a probe, and peers that acknowledge nothing cannot be asked.
  if (state != State::kOpen || !traits->resend || !ResendDeadline().is_never()) return;
  probing = probe_wanted = true;
  probe_base = now;
}

Instant Engine::Impl::ProbeDeadline() const {
  if (state != State::kOpen || !traits->resend || !ResendDeadline().is_never())
    return Instant::Never();
  if (probing) return probe_base + ResendTimeout();
  return waits_for == Room::kCredits ? heard_at + config.max_resend_timeout : Instant::Never();
}

Instant Engine::Impl::NextDeadline() const {
  switch (state) {
    case State::kIdle:
    case State::kClosed:
    case State::kFailed:
      return Instant::Never();
    case State::kClosing:
      return close_deadline;
    case State::kOpening:
    case State::kOpen:
      break;
  }
  Instant deadline = ResendDeadline();
  if (deadline.is_never()) deadline = ProbeDeadline();  // there is none beside the other
  deadline = std::min(deadline, ForgetDeadline());
  if (state == State::kOpening) deadline = std::min(deadline, open_deadline);
  // What cannot be sent for want of room is no reason to wake up; the next acknowledgement is.
  const bool room = window.HasRoom(kMinFrameBytes);
  if (room && !recovering) deadline = std::min(deadline, credit_deadline);
  if (room || recovering || is_11()) deadline = std::min(deadline, ack.deadline());
  return deadline;
}

Engine::Engine(const EngineConfig& config) : impl_(std::make_unique<Impl>(config)) {}
Engine::~Engine() = default;

const EngineConfig& Engine::config() const { return impl_->config; }
State Engine::state() const { return impl_->state; }
Failure Engine::failure() const { return impl_->failure; }
PeerProfile Engine::peer() const { return impl_->profile; }
const EngineStats& Engine::stats() const { return impl_->stats; }
tilelink::DataOrder Engine::data_order() const {
  return impl_->config.data_order.value_or(impl_->traits->data_order);
}
std::size_t Engine::max_message_flits() const { return impl_->max_frame_flits; }
bool Engine::packs_frames() const { return !impl_->traits->one_message_per_frame; }
uint8_t Engine::largest_answer_size() const { return impl_->traits->largest_answer_size; }

void Engine::Open(Instant now) { impl_->Open(now); }
void Engine::Close(Instant now) { impl_->Close(now); }
void Engine::Reset() { impl_->Reset(); }
std::size_t Engine::lost_frame_bytes() const { return impl_->lost_frame_bytes; }
void Engine::LimitFrames(std::size_t bytes) { impl_->LimitFrames(bytes); }

FrameVerdict Engine::OnFrame(Instant now, std::span<const std::byte> frame) {
  return impl_->OnFrame(now, frame);
}
const tilelink::DecodedMessage* Engine::PeekMessage() { return impl_->PeekMessage(); }
const tilelink::DecodedMessage* Engine::NextMessage() { return impl_->NextMessage(); }
void Engine::Retain() { impl_->Retain(); }

bool Engine::CanEnqueue(tilelink::Channel channel, std::size_t flits) {
  return impl_->CanEnqueue(channel, flits);
}
bool Engine::Enqueue(const tilelink::Message& message, const tilelink::MemoryPayload& payload) {
  return impl_->Enqueue(message, payload);
}
void Engine::SpoilLast() { tilelink::SpoilMessage(impl_->last_message); }
void Engine::Probe(Instant now) { impl_->Probe(now); }
std::span<const std::byte> Engine::NextFrame(Instant now) { return impl_->NextFrame(now); }

Instant Engine::next_deadline() const { return impl_->NextDeadline(); }
void Engine::OnDeadline(Instant now) { impl_->OnDeadline(now); }

bool Engine::idle() const {
  return !impl_->building && !impl_->window.has_unsent() &&
         impl_->awaited_end <= impl_->window.acknowledged();
}
Instant Engine::last_sign_of_life() const { return impl_->heard_at; }
std::size_t Engine::longest_frame_received() const { return impl_->longest_received; }
Duration Engine::round_trip() const { return impl_->round_trip.smoothed(); }

uint8_t Engine::LargestDataSize(std::size_t max_frame_bytes) {
  // A put: header and address beside the data. Sizes have four bits.
  const std::size_t flits = FlitsOfFrame(max_frame_bytes);
  if (flits < 3) return 0;
  const int log2_flits = std::bit_width(flits - 2) - 1;
  return static_cast<uint8_t>(std::min(log2_flits + 3, 15));
}

std::span<const std::byte> Engine::RefusalFor(const EngineConfig& config,
                                              std::span<const std::byte> frame,
                                              std::span<std::byte, kRefusalBytes> to) {
  static_assert(kRefusalBytes == kMinFrameBytes);
  const auto parsed = ParseFrame(frame);
  if (!parsed || parsed->header.virtual_channel != config.virtual_channel) return {};
  const FrameHeader& received = parsed->header;
  FrameHeader refusal;
  refusal.virtual_channel = config.virtual_channel;
  switch (config.protocol) {
    case Protocol::k11:
      if (received.type != FrameType::kNormal) return {};
      // The number the sender expects next, so that it is not taken for an old frame. The sender
      // may speak 1.0.3, where the type means nothing: for it this is a NAK that says that nothing
      // was ever received.
      refusal.type = FrameType::kClose;
      refusal.sequence = received.acknowledged.Next();
      refusal.acknowledged = SequenceNumber::FromWire(config.initial_sequence).Previous();
      refusal.ack = false;
      break;
    case Protocol::k103: {
      // NAK: nothing was ever received. It takes a number the sender has seen, as it is no frame
      // of a connection. An acknowledgement alone is not answered.
      if (parsed->mask == 0 && received.credit_channel == 0) return {};
      refusal.sequence = received.acknowledged;
      refusal.acknowledged = SequenceNumber::FromWire(config.initial_sequence).Previous();
      refusal.ack = false;
      break;
    }
  }
  WriteEmptyFrame(refusal, to);
  return to;
}

}  // namespace oxmem::tloe
