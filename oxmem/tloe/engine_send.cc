#include <algorithm>

#include "oxmem/tloe/engine_impl.h"
#include "transport/base/byte_order.h"
#include "transport/base/check.h"

namespace oxmem::tloe {

using tilelink::Channel;

namespace {

// The room asked for at least when a frame is begun: a larger one lets more messages join.
std::size_t FrameBytes(std::size_t flits) {
  return kFrameOverheadBytes + std::max(flits, kMinFlits) * tilelink::kFlitBytes;
}

}  // namespace

bool Engine::Impl::CanEnqueue(Channel channel, std::size_t flits) {
  if (state != State::kOpen) return false;
  if (!send_credits.Allows(channel, flits)) return WaitFor(Room::kCredits);
  if (building && !traits->one_message_per_frame && builder.Fits(flits)) return true;
  if (flits > max_frame_flits) return false;
  // The frame under construction, which is closed first, takes a slot too and at most the room it
  // was given.
  const bool room = building ? window.HasRoomAfterOpen(builder.length(), FrameBytes(flits))
                             : window.HasRoom(FrameBytes(flits));
  return room || WaitFor(Room::kWindow);
}

// Counts the beginning of a wait. Always false.
bool Engine::Impl::WaitFor(Room room) {
  if (room == waits_for) return false;
  waits_for = room;
  (room == Room::kCredits ? stats.credit_stalls : stats.window_stalls).Increment();
  return false;
}

bool Engine::Impl::Enqueue(const tilelink::Message& message,
                           const tilelink::MemoryPayload& payload) {
  if (state != State::kOpen) return false;
  const std::size_t flits = tilelink::FlitsOf(message);
  if (!send_credits.Allows(message.channel, flits)) return WaitFor(Room::kCredits);
  if (!PrepareFrame(flits)) return WaitFor(Room::kWindow);
  const auto order = config.data_order.value_or(traits->data_order);
  last_message = builder.Append(flits);
  tilelink::EncodeMessage(message, payload, order, last_message);
  send_credits.Spend(message.channel, flits);
  waits_for = Room::kNothing;
  ++built_messages;
  stats.messages_sent.Increment();
  if (traits->one_message_per_frame) CloseFrame();
  return true;
}

// Makes the frame under construction one that `flits` more fit into.
bool Engine::Impl::PrepareFrame(std::size_t flits) {
  if (building && builder.Fits(flits)) return true;
  if (flits > max_frame_flits) return false;
  if (building) {
    if (!window.HasRoomAfterOpen(builder.length(), FrameBytes(flits))) return false;
    CloseFrame();
  }
  const auto room = window.OpenFrame(FrameBytes(flits),
                                     kFrameOverheadBytes + max_frame_flits * tilelink::kFlitBytes);
  if (room.empty()) return false;
  builder.Begin(room, config.max_start_of_message_flit, max_frame_flits);
  building = true;
  built_messages = 0;
  return true;
}

void Engine::Impl::CloseFrame() {
  SentFrame& frame = window.Close(builder.Finish());
  frame.messages = built_messages;
  if (traits->answer_carries_request_number) frame.fixed_ack = answer_numbers.Pop();
  building = false;
}

// A frame without messages, in its place after what is enqueued. False if the window has no room.
bool Engine::Impl::BuildEmptyFrame(FrameType type) {
  if (building) CloseFrame();
  const auto room = window.OpenFrame(kMinFrameBytes, kMinFrameBytes);
  if (room.empty()) return false;
  builder.Begin(room, config.max_start_of_message_flit, max_frame_flits);
  window.Close(builder.Finish()).type = type;
  return true;
}

// One frame a channel, before any message: both sides know the other's buffers when it begins. At
// least one, as it answers the opening. The window of the profile holds afterwards.
void Engine::Impl::BuildOpeningGrants() {
  window.LimitFrames(SIZE_MAX);
  int channels = 0;
  for (int i = 0; i < tilelink::kChannelCount; ++i)
    if (receive_credits.waiting(tilelink::ChannelAt(static_cast<std::size_t>(i))) != 0) ++channels;
  do {
    if (!BuildEmptyFrame(FrameType::kNormal)) break;
  } while (--channels > 0);
  window.LimitFrames(traits->max_window_frames);
}

std::span<const std::byte> Engine::Impl::NextFrame(Instant now) {
  switch (state) {
    case State::kIdle:
    case State::kClosed:
    case State::kFailed:
      return close_wanted ? EmitControl(FrameType::kClose) : std::span<const std::byte>();
    case State::kClosing:
      if (window.has_unsent()) return EmitNew(now);
      return close_wanted ? EmitControl(FrameType::kClose) : std::span<const std::byte>();
    case State::kOpening:
    case State::kOpen:
      break;
  }
  if (window.resending()) {
    const auto bytes = EmitResend(now);
    if (!bytes.empty()) return bytes;
  }
  if (ask_wanted) return EmitAsk();
  if (recovering) return EmitAckInRecovery(now);
  if (!window.has_unsent()) {
    if (probe_wanted && window.sent() > 0) return EmitProbe();
    if (building) {
      CloseFrame();
    } else if (WantsCreditFrame(now)) {
      if (!BuildEmptyFrame(FrameType::kNormal)) return EmitLoneAck(now);
    } else {
      return EmitLoneAck(now);
    }
  }
  return EmitNew(now);
}

bool Engine::Impl::WantsCreditFrame(Instant now) {
  if (!answered || !traits->credit_frames) return false;
  if (receive_credits.urgent()) return true;
  if (!receive_credits.due()) {
    credit_deadline = Instant::Never();
    return false;
  }
  if (credit_deadline.is_never()) credit_deadline = now + config.max_ack_delay;
  return now >= credit_deadline;
}

std::span<const std::byte> Engine::Impl::EmitNew(Instant now) {
  const uint64_t index = window.sent();
  SentFrame& frame = window.At(index);
  if (answered || frame.type == FrameType::kOpen) {
    const auto grant = frame.type == FrameType::kOpen ? receive_credits.TakeGrantOf(Channel::kA)
                                                      : receive_credits.TakeGrant();
    if (grant) {
      frame.credit_channel = static_cast<uint8_t>(grant->channel);
      frame.credit_exponent = grant->exponent;
      if (!receive_credits.due()) credit_deadline = Instant::Never();
    }
  }
  // 1.0.3: an acknowledgement alone is not acknowledged, so it must not be waited for.
  frame.awaited = traits->resend && (is_11() || frame.messages != 0 || frame.credit_channel != 0);
  WriteHeader(frame, index);
  if (frame.awaited) {
    if (awaited_end <= window.acknowledged()) {
      resend_base = now;
      too_long.OnProgress(now);
    }
    awaited_end = index + 1;
  }
  window.MarkSent(now);
  CountSent(frame.length);
  return window.BytesOf(frame);
}

std::span<const std::byte> Engine::Impl::EmitResend(Instant now) {
  uint64_t index = 0;
  while (SentFrame* frame = window.NextResend(&index)) {
    // A peer that acknowledges frames one by one may be about to do so for a young one.
    if (traits->single_acks && now - frame->sent_at < config.min_resend_timeout) continue;
    return EmitAgain(now, index);
  }
  return {};
}

std::span<const std::byte> Engine::Impl::EmitAgain(Instant now, uint64_t index) {
  SentFrame& frame = window.At(index);
  frame.sent_at = now;
  if (frame.resends < UINT16_MAX) ++frame.resends;
  WriteHeader(frame, index);
  stats.resends.Increment();
  CountSent(frame.length);
  return window.BytesOf(frame);
}

// The acknowledgement is fresh at every sending. The credits are those of the first one: the peer
// adds them up once, whichever copy arrives.
void Engine::Impl::WriteHeader(const SentFrame& frame, uint64_t index) {
  FrameHeader header;
  header.virtual_channel = config.virtual_channel;
  header.type = is_11() ? frame.type : FrameType::kNormal;
  header.sequence = window.NumberOf(index);
  header.credit_channel = frame.credit_channel;
  header.credit_exponent = frame.credit_exponent;
  if (frame.fixed_ack) {
    header.acknowledged = *frame.fixed_ack;
  } else {
    header.acknowledged = receive.last();
    header.ack = !ack.nak();
    if (ack.nak()) stats.naks_sent.Increment();
    ack.OnSent();
  }
  StoreBigEndian(window.BytesOf(frame).data(), EncodeFrameHeader(header));
}

// The last number once more: a peer that knows it acknowledges it again, and one that does not says
// so. It names credits so that it counts as a frame with content; of a duplicate they are ignored.
std::span<const std::byte> Engine::Impl::EmitProbe() {
  probe_wanted = false;
  return EmitDuplicate(window.next_number().Previous());
}

// A number that the peer has for certain: whatever else got lost, it is acknowledged again.
std::span<const std::byte> Engine::Impl::EmitAsk() {
  ask_wanted = false;
  return EmitDuplicate(window.NumberOf(window.acknowledged()).Previous());
}

std::span<const std::byte> Engine::Impl::EmitDuplicate(SequenceNumber number) {
  FrameHeader header;
  header.virtual_channel = config.virtual_channel;
  header.sequence = number;
  header.acknowledged = receive.last();
  header.credit_channel = static_cast<uint8_t>(Channel::kA);
  return EmitControlFrame(header);
}

std::span<const std::byte> Engine::Impl::EmitLoneAck(Instant now) {
  if (!answered || !traits->lone_acks || !ack.IsDue(now)) return {};
  if (is_11()) return EmitControl(FrameType::kAckOnly);
  // 1.0.3: it takes a number and room, and is acknowledged only by what the peer sends for other
  // reasons. After some the oldest frame is sent again instead, with what is to be acknowledged
  // now: if that one was lost it is what the peer needs most.
  const uint64_t unawaited = window.sent() - std::max(awaited_end, window.acknowledged());
  if (unawaited >= std::min<uint64_t>(kMostUnawaited, window.limit() / 2)) {
    return EmitAgain(now, window.acknowledged());
  }
  if (!BuildEmptyFrame(FrameType::kNormal)) return {};
  stats.acks_sent.Increment();
  return EmitNew(now);
}

// Takes no new number. In 1.0.3 that is the oldest frame again; or, if that may be too long to
// arrive, one before it that the peer has for certain.
std::span<const std::byte> Engine::Impl::EmitAckInRecovery(Instant now) {
  if (!answered || !traits->lone_acks || !ack.IsDue(now)) return {};
  if (is_11()) return EmitControl(FrameType::kAckOnly);
  if (!MayBeTooLong(window.At(window.acknowledged()))) return EmitAgain(now, window.acknowledged());
  FrameHeader header;
  header.virtual_channel = config.virtual_channel;
  header.sequence = window.NumberOf(window.acknowledged()).Previous();
  header.acknowledged = receive.last();
  header.ack = !ack.nak();
  if (ack.nak()) stats.naks_sent.Increment();
  stats.acks_sent.Increment();
  ack.OnSent();
  return EmitControlFrame(header);
}

// Takes no number: it carries the next one.
std::span<const std::byte> Engine::Impl::EmitControl(FrameType type) {
  FrameHeader header;
  header.virtual_channel = config.virtual_channel;
  header.type = type;
  header.sequence = window.next_number();
  header.acknowledged = receive.last();
  if (type == FrameType::kClose) {
    close_wanted = false;
  } else {
    header.ack = !ack.nak();
    if (ack.nak()) stats.naks_sent.Increment();
    stats.acks_sent.Increment();
  }
  ack.OnSent();
  return EmitControlFrame(header);
}

std::span<const std::byte> Engine::Impl::EmitControlFrame(const FrameHeader& header) {
  auto& frame = control[next_control++ % control.size()];
  WriteEmptyFrame(header, frame);
  CountSent(frame.size());
  return frame;
}

void Engine::Impl::CountSent(std::size_t bytes) {
  stats.frames_sent.Increment();
  stats.bytes_sent.Add(bytes);
}

Duration Engine::Impl::AckDelay() const {
  return std::clamp(round_trip.smoothed() / 4, config.min_ack_delay, config.max_ack_delay);
}

Duration Engine::Impl::ResendTimeout() const {
  return state == State::kOpening ? config.open_retry : round_trip.timeout();
}

Instant Engine::Impl::ResendDeadline() const {
  return awaited_end > window.acknowledged() ? resend_base + ResendTimeout() : Instant::Never();
}

void Engine::Impl::StartResend(Instant now) {
  window.StartResend();
  resend_base = now;
}

// Frames to a peer that acknowledges nothing are done when they were sent.
void Engine::Impl::ForgetUnawaited() {
  if (!traits->resend) window.AcknowledgeUpTo(window.sent());
}

Instant Engine::Impl::ForgetDeadline() const {
  if (traits->resend || window.all_acknowledged()) return Instant::Never();
  return window.At(window.acknowledged()).sent_at + config.max_ack_delay;
}

}  // namespace oxmem::tloe
