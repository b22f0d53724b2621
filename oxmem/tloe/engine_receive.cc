#include <algorithm>

#include "oxmem/tloe/engine_impl.h"
#include "transport/base/check.h"

namespace oxmem::tloe {

using tilelink::Channel;
using tilelink::DecodedMessage;
using tilelink::kFlitBytes;

namespace {

// Exponents that older software opens with, by which it is recognised.
constexpr uint8_t kOmnixtendCExponent = 10;  // MemoryNode has the same
constexpr uint8_t kOxmemNbdExponent = 20;
constexpr uint8_t kOxmemFuseExponent = 28;

// 1.0.3 has no open and close: a peer that restarted is recognised by acknowledgements that make
// no sense here, this many and for this many initial resend timeouts (not those of the moment: they
// grow with every resend to a peer that is not there).
constexpr int kMisfits = 4;
constexpr int kMisfitTimeouts = 3;

// A reserved bit of the header's first byte, in messages that are kept.
constexpr std::byte kMalformedMark{0x80};

// Resends that NAKs may cause before there is progress.
constexpr int kMostNakRounds = 4;

// FNV-1a, for telling frames apart; not against somebody who wants them to look alike.
uint64_t HashOf(std::span<const std::byte> bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const std::byte byte : bytes) {
    hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  }
  return hash;
}

bool IsCreditChannel(uint8_t channel) {
  return channel >= 1 && channel <= static_cast<uint8_t>(tilelink::kChannelCount);
}

bool CarriesContent(const ParsedFrame& frame) {
  return frame.mask != 0 || IsCreditChannel(frame.header.credit_channel);
}

}  // namespace

FrameVerdict Engine::Impl::OnFrame(Instant now, std::span<const std::byte> bytes) {
  ReleaseCurrent();
  if (next_message < message_count) Retain();
  message_count = next_message = 0;
  ForgetUnawaited();
  stats.frames_received.Increment();
  stats.bytes_received.Add(bytes.size());
  auto frame = ParseFrame(bytes);
  if (!frame) {
    stats.malformed.Increment();
    return FrameVerdict::kMalformed;
  }
  FrameVerdict verdict = FrameVerdict::kIgnored;
  if (SpeaksOtherProtocol(frame->header)) {
    Fail(Failure::kOtherProtocol);
  } else {
    // In 1.0.3 the bits of the type are reserved.
    if (!is_11()) frame->header.type = FrameType::kNormal;
    verdict = OnFrameOfChannel(now, *frame);
  }
  switch (verdict) {
    case FrameVerdict::kAccepted:
    case FrameVerdict::kAckOnly:
    case FrameVerdict::kNewPeer:
      break;
    case FrameVerdict::kDuplicate:
      stats.duplicates.Increment();
      break;
    case FrameVerdict::kGap:
      stats.gaps.Increment();
      break;
    case FrameVerdict::kMalformed:
      stats.malformed.Increment();
      break;
    case FrameVerdict::kIgnored:
      stats.ignored.Increment();
      break;
  }
  return verdict;
}

FrameVerdict Engine::Impl::OnFrameOfChannel(Instant now, const ParsedFrame& frame) {
  const FrameHeader& header = frame.header;
  if (header.virtual_channel != config.virtual_channel ||
      static_cast<uint8_t>(header.type) > static_cast<uint8_t>(FrameType::kClose))
    return FrameVerdict::kIgnored;
  switch (state) {
    case State::kIdle:
      return OnFrameIdle(now, frame);
    case State::kOpening:
    case State::kOpen:
    case State::kClosing:
      return OnFrameConnected(now, frame);
    case State::kClosed:
    case State::kFailed:
      break;
  }
  if (header.type == FrameType::kClose && failure == Failure::kPeerClosed) {
    close_wanted = true;  // the answer got lost
  } else if (config.role == Role::kResponder && IsBeginning(header)) {
    return FrameVerdict::kNewPeer;
  }
  return FrameVerdict::kIgnored;
}

// A responder that has only the other protocol answers an opening with its own refusal: that it has
// never received anything (see Engine::RefusalFor).
bool Engine::Impl::SpeaksOtherProtocol(const FrameHeader& header) const {
  const SequenceNumber none = first_number().Previous();
  if (config.role != Role::kInitiator || state != State::kOpening || header.ack ||
      header.virtual_channel != config.virtual_channel || header.acknowledged != none)
    return false;
  if (is_11()) return !answered && header.type == FrameType::kNormal && header.sequence == none;
  return header.type == FrameType::kClose;
}

// Whether the frame can be the first of a connection.
bool Engine::Impl::IsBeginning(const FrameHeader& header) const {
  if (header.sequence != first_number()) return false;
  return is_11() ? header.type == FrameType::kOpen
                 : header.acknowledged == first_number().Previous();
}

FrameVerdict Engine::Impl::OnFrameIdle(Instant now, const ParsedFrame& frame) {
  if (config.role != Role::kResponder || !IsBeginning(frame.header)) return FrameVerdict::kIgnored;
  const MessageCount count = DecodeMessages(frame, &messages);
  if (!count.all_well_formed()) return FrameVerdict::kMalformed;
  if (is_11()) RecogniseInitiator(frame.header);
  const FrameVerdict verdict = Accept(now, frame, count.messages);
  if (verdict != FrameVerdict::kAccepted && verdict != FrameVerdict::kAckOnly) {
    Reset();
    return verdict;
  }
  answered = true;
  BecomeOpen(now);
  if (!traits->grant_all) {
    receive_credits.Reset({config.receive_flits[0], 0, 0, 0, 0},
                          static_cast<uint32_t>(max_frame_flits));
  }
  BuildOpeningGrants();
  return verdict;
}

void Engine::Impl::RecogniseInitiator(const FrameHeader& open) {
  if (profile != PeerProfile::kAuto) return;
  PeerProfile seen = PeerProfile::kSpec;
  if (open.credit_channel == static_cast<uint8_t>(Channel::kA)) {
    if (!open.ack && open.credit_exponent == kOxmemFuseExponent) seen = PeerProfile::kOxmemFuse;
    if (!open.ack && open.credit_exponent == kOxmemNbdExponent) seen = PeerProfile::kOxmemNbd;
    if (open.ack && open.credit_exponent == kOmnixtendCExponent) seen = PeerProfile::kOmnixtendC;
  }
  UseProfile(seen);
}

FrameVerdict Engine::Impl::OnFrameConnected(Instant now, const ParsedFrame& frame) {
  const FrameHeader& header = frame.header;
  if (state == State::kOpening && is_11() && !answered && !IsAnswerToOpen(header))
    return FrameVerdict::kIgnored;
  longest_received = std::max(longest_received, kFrameOverheadBytes + frame.flits.size());
  switch (header.type) {
    case FrameType::kAckOnly:
      // Neither of the two that answer alike has sent one frame only when it sends this.
      if (undecided && header.sequence == first_number().Next())
        DecideProfile(now, PeerProfile::kSpec);
      OnAcknowledgement(now, header);
      too_long.OnAnswer(now);
      if (IsCreditChannel(header.credit_channel))
        send_credits.Add(static_cast<Channel>(header.credit_channel), header.credit_exponent);
      // The window may have been too full for the last frame of the opening until now.
      if (state == State::kOpening) FinishOpening(now);
      return FrameVerdict::kAckOnly;
    case FrameType::kClose:
      return OnCloseFrame(header);
    case FrameType::kOpen:
      if (config.role == Role::kResponder) return OnOpen(now, frame);
      break;
    case FrameType::kNormal:
      break;
  }
  return OnSequenced(now, frame);
}

// An answer takes the first number and acknowledges the opening; whatever else comes belongs to an
// earlier connection, or to none.
bool Engine::Impl::IsAnswerToOpen(const FrameHeader& header) const {
  return (header.type == FrameType::kNormal || header.type == FrameType::kOpen) &&
         header.sequence == first_number() && header.acknowledged == first_number() &&
         window.sent() > 0;
}

FrameVerdict Engine::Impl::OnCloseFrame(const FrameHeader& header) {
  if (state == State::kClosing) {
    state = State::kClosed;
    return FrameVerdict::kAckOnly;
  }
  // One of an earlier connection carries an old number.
  if (receive.IsBehind(header.sequence)) return FrameVerdict::kDuplicate;
  Fail(Failure::kPeerClosed);
  return FrameVerdict::kAckOnly;
}

// OPEN over a live connection: a copy of the one it began with, or a peer that began anew.
FrameVerdict Engine::Impl::OnOpen(Instant now, const ParsedFrame& frame) {
  if (!IsBeginning(frame.header)) return FrameVerdict::kIgnored;
  const bool only_opened = receive.last() == first_number() && window.acknowledged() == 0;
  if (only_opened && frame.header.ack) {
    // Nothing else was exchanged: whoever asks, the answer is the same.
    StartResend(now);
    if (traits->lone_acks) ack.RequestNow();
    return FrameVerdict::kDuplicate;
  }
  if (open_repeats++ == 0) first_repeat = now;
  // Older software opens once and never again (ack is 0 then). Others repeat an OPEN that is not
  // answered, while a late copy comes once, and soon after the connection began.
  const bool certain = !frame.header.ack || now - opened_at >= config.open_timeout ||
                       (open_repeats >= 2 && now - first_repeat >= config.open_retry / 2);
  if (!certain) {
    if (traits->lone_acks) ack.RequestNow();
    return FrameVerdict::kDuplicate;
  }
  Fail(Failure::kPeerRestarted);
  return FrameVerdict::kNewPeer;
}

FrameVerdict Engine::Impl::OnSequenced(Instant now, const ParsedFrame& frame) {
  const FrameHeader& header = frame.header;
  // First of all, so that a frame that is not right changes nothing.
  const MessageCount count = DecodeMessages(frame, &messages);
  if (!count.all_well_formed() && !IsMeant(frame)) return FrameVerdict::kMalformed;
  // Until its first frame has come, what a 1.0.3 peer says may be about an earlier connection.
  if (!is_11() && state == State::kOpening &&
      receive.Classify(header.sequence) != ReceiveWindow::Place::kInOrder)
    return FrameVerdict::kGap;
  if (undecided) LearnFromOpening(now, frame);
  if (traits->single_acks) {
    // The answer of a request that was answered already has no place here, whatever its number.
    if (!OnSingleAcknowledgement(now, header)) return FrameVerdict::kDuplicate;
  } else if (!OnAcknowledgement(now, header)) {
    const bool anew = config.role == Role::kResponder && IsBeginning(header);
    Fail(Failure::kPeerRestarted);
    return anew ? FrameVerdict::kNewPeer : FrameVerdict::kIgnored;
  }
  const ReceiveWindow::Place place = receive.Classify(header.sequence);
  // A probe has a number that was there before, and credits for show.
  const bool probe = place == ReceiveWindow::Place::kDuplicate && CarriesContent(frame);
  if (frame.mask == 0 && !probe) too_long.OnAnswer(now);
  switch (place) {
    case ReceiveWindow::Place::kInOrder:
      return Accept(now, frame, count.messages);
    case ReceiveWindow::Place::kDuplicate:
      ScheduleAck(now, frame);
      return FrameVerdict::kDuplicate;
    case ReceiveWindow::Place::kGap:
      OnGap(header.sequence);
      return FrameVerdict::kGap;
  }
  return FrameVerdict::kIgnored;
}

// Whether a frame with a message that cannot be decoded is what the peer wants to send. One that
// was damaged on its way does not come like that again, so it is asked for once more.
bool Engine::Impl::IsMeant(const ParsedFrame& frame) {
  if (traits->accepts_gaps) return true;  // it would not come again
  if (receive.Classify(frame.header.sequence) != ReceiveWindow::Place::kInOrder) return false;
  const uint64_t hash = HashOf(frame.flits) ^ frame.mask;
  if (malformed_seen && malformed_number == frame.header.sequence && malformed_hash == hash)
    return true;
  malformed_seen = true;
  malformed_number = frame.header.sequence;
  malformed_hash = hash;
  // Before the opening was answered nothing is sent; the peer says its answer again by itself.
  if (answered && traits->lone_acks) ack.RequestNak();
  return false;
}

// One NAK a gap, and one more when the peer has started over and there is a gap again.
void Engine::Impl::OnGap(SequenceNumber number) {
  const bool further =
      gap_open && number != last_gap && number.DistanceFrom(last_gap) < SequenceNumber::kHalf;
  if (!further && traits->lone_acks) ack.RequestNak();
  gap_open = true;
  last_gap = number;
}

FrameVerdict Engine::Impl::Accept(Instant now, const ParsedFrame& frame, std::size_t count) {
  const FrameHeader& header = frame.header;
  if (count != 0 && !Store(frame, count)) return FrameVerdict::kGap;
  receive.Accept(header.sequence);
  gap_open = malformed_seen = false;
  open_repeats = 0;
  if (IsCreditChannel(header.credit_channel))
    send_credits.Add(static_cast<Channel>(header.credit_channel), header.credit_exponent);
  ScheduleAck(now, frame);
  if (state == State::kOpening) OnOpeningFrame(now, frame);
  if (!traits->lone_acks && count == 0 && state == State::kOpen &&
      header.type == FrameType::kNormal) {
    // Waits for an answer to everything it sends.
    BuildEmptyFrame(FrameType::kNormal);
  }
  return count != 0 ? FrameVerdict::kAccepted : FrameVerdict::kAckOnly;
}

void Engine::Impl::ScheduleAck(Instant now, const ParsedFrame& frame) {
  // In 1.0.3 an acknowledgement alone is not answered by another.
  if (traits->lone_acks && (is_11() || CarriesContent(frame)))
    ack.OnFrame(now, AckDelay(), traits->ack_every);
}

// Takes the decoded messages in; false if there is no room for them, which happens only when the
// peer sent more than it was granted.
bool Engine::Impl::Store(const ParsedFrame& frame, std::size_t count) {
  std::size_t bytes = 0;
  std::size_t requests = 0;
  for (std::size_t i = 0; i < count; ++i) {
    bytes += messages[i].flit_count * kFlitBytes;
    requests += messages[i].message.channel == Channel::kA ? 1 : 0;
  }
  const bool numbers = traits->answer_carries_request_number;
  if (!retained.Fits(bytes) || (numbers && !answer_numbers.HasRoom(requests))) {
    stats.credit_violations.Increment();
    return false;
  }
  bool covered = true;
  for (std::size_t i = 0; i < count; ++i) {
    covered &= receive_credits.OnReceived(messages[i].message.channel,
                                          static_cast<uint32_t>(messages[i].flit_count));
    if (numbers && messages[i].message.channel == Channel::kA)
      answer_numbers.Push(frame.header.sequence);
  }
  if (!covered) stats.credit_violations.Increment();
  message_count = count;
  next_message = 0;
  return true;
}

// The first frames in order after Open.
void Engine::Impl::OnOpeningFrame(Instant now, const ParsedFrame& frame) {
  const FrameHeader& header = frame.header;
  if (!answered) {
    answered = true;
    // MemoryNode and omnixtend-c answer with the same frame; the next one tells.
    undecided = profile == PeerProfile::kAuto && frame.mask == 0 &&
                header.credit_channel == static_cast<uint8_t>(Channel::kA) &&
                header.credit_exponent == kOmnixtendCExponent;
    if (traits->credit_frames) BuildOpeningGrants();
  }
  FinishOpening(now);
}

// Opens once the peer has granted what its kind grants, and what this side opens with was received.
void Engine::Impl::FinishOpening(Instant now) {
  if (!answered || undecided) return;
  if (!traits->await_all_credits) {
    BecomeOpen(now);
    return;
  }
  for (int i = 0; i < tilelink::kChannelCount; ++i)
    if (send_credits.available(tilelink::ChannelAt(static_cast<std::size_t>(i))) == 0) return;
  // The end of its opening is a frame with nothing in it.
  if (BuildEmptyFrame(FrameType::kNormal)) BecomeOpen(now);
}

// The frame after the answer, whatever its place, says who the peer is.
void Engine::Impl::LearnFromOpening(Instant now, const ParsedFrame& frame) {
  const FrameHeader& header = frame.header;
  if (header.type != FrameType::kNormal || header.sequence == first_number()) return;
  const bool same = frame.mask == 0 && header.credit_exponent == kOmnixtendCExponent;
  if (same && header.credit_channel == static_cast<uint8_t>(Channel::kA)) {
    DecideProfile(now, PeerProfile::kMemoryNode);
  } else {
    DecideProfile(now, same ? PeerProfile::kOmnixtendC : PeerProfile::kSpec);
  }
}

void Engine::Impl::DecideProfile(Instant now, PeerProfile decided) {
  undecided = false;
  UseProfile(decided);
  if (!traits->await_all_credits) BecomeOpen(now);
}

// False when it shows that the peer has restarted (1.0.3).
bool Engine::Impl::OnAcknowledgement(Instant now, const FrameHeader& header) {
  const uint64_t first_open = window.acknowledged();
  const uint64_t outstanding = window.sent() - first_open;
  const uint32_t ahead = header.acknowledged.DistanceFrom(window.NumberOf(first_open).Previous());
  if (ahead > outstanding) {
    // Old, from a frame that came late; or of another connection.
    if (is_11() || state != State::kOpen) return true;
    return !suspicion.OnMisfit(now, kMisfits, config.initial_resend_timeout * kMisfitTimeouts);
  }
  suspicion.OnFitting();
  OnSignOfLife(now);
  if (ahead > 0) OnProgress(now, first_open + ahead - 1);
  if (!header.ack) OnNak(now);
  return true;
}

// False if the acknowledged frame is not waiting for it.
bool Engine::Impl::OnSingleAcknowledgement(Instant now, const FrameHeader& header) {
  const uint64_t first_open = window.acknowledged();
  const uint64_t index = first_open + header.acknowledged.DistanceFrom(window.NumberOf(first_open));
  OnSignOfLife(now);
  if (index >= window.sent() || window.At(index).acknowledged) return false;
  if (window.At(index).resends == 0) round_trip.AddSample(now - window.At(index).sent_at);
  round_trip.OnProgress();
  timeouts = nak_rounds = 0;
  window.AcknowledgeOne(index);
  // The oldest one left counts from its own sending.
  if (window.acknowledged() < window.sent()) resend_base = window.At(window.acknowledged()).sent_at;
  return true;
}

void Engine::Impl::OnSignOfLife(Instant now) {
  heard_at = now;
  if (!probing) return;
  probing = probe_wanted = false;
  timeouts = 0;
  round_trip.OnProgress();
}

void Engine::Impl::OnProgress(Instant now, uint64_t last_index) {
  const SentFrame& last = window.At(last_index);
  // What nobody answers for its own sake says nothing about the round trip.
  if (last.resends == 0 && last.awaited) round_trip.AddSample(now - last.sent_at);
  round_trip.OnProgress();
  timeouts = nak_rounds = 0;
  window.AcknowledgeUpTo(last_index + 1);
  resend_base = now;
  too_long.OnProgress(now);
  ask_wanted = false;
  if (!recovering) return;
  recovering = false;
  // It had just that one to get; what was behind it is gone. If it had more, it may have all.
  if (window.acknowledged() == recovery_end) window.StartResend();
}

void Engine::Impl::OnNak(Instant now) {
  stats.naks_received.Increment();
  if (!traits->resend || window.all_acknowledged() || state == State::kOpening) return;
  // The oldest frame is on its way alone, and a NAK is about earlier ones.
  if (recovering) return;
  // Several NAKs of one gap ask for one round: the frames of it are on their way.
  const SentFrame& first = window.At(window.acknowledged());
  if (first.resends > 0 && now - first.sent_at < round_trip.smoothed() * 3 / 4) return;
  // What is lost again and again is left to the timeout, which takes its time and has an end.
  if (nak_rounds >= kMostNakRounds) return;
  ++nak_rounds;
  StartResend(now);
}

const DecodedMessage* Engine::Impl::PeekMessage() {
  if (!retained.empty()) {
    if (!retained_peeked) {
      if ((retained.Unread().front() & kMalformedMark) != std::byte{0}) {
        retained_message = *tilelink::DecodeMalformed(retained.Unread());
      } else {
        OXMEM_CHECK(tilelink::DecodeMessage(retained.Unread(), &retained_message));
      }
      retained_peeked = true;
    }
    return &retained_message;
  }
  return next_message < message_count ? &messages[next_message] : nullptr;
}

const DecodedMessage* Engine::Impl::NextMessage() {
  ReleaseCurrent();
  const DecodedMessage* message = PeekMessage();
  if (message == nullptr) return nullptr;
  if (retained_peeked) {
    retained.Advance(message->flit_count * kFlitBytes);
    retained_peeked = false;
  } else {
    ++next_message;
  }
  has_current = true;
  current_channel = message->message.channel;
  current_flits = static_cast<uint32_t>(message->flit_count);
  stats.messages_received.Increment();
  return message;
}

// The message handed out last is given back: its flits are free again.
void Engine::Impl::ReleaseCurrent() {
  if (!has_current) return;
  has_current = false;
  receive_credits.OnConsumed(current_channel, current_flits);
  retained.Release();
}

void Engine::Impl::Retain() {
  ReleaseCurrent();
  for (; next_message < message_count; ++next_message) {
    const DecodedMessage& message = messages[next_message];
    const std::size_t bytes = message.flit_count * kFlitBytes;
    // The payload ends where the message does.
    const std::byte* end = message.payload.flits.data() + message.payload.flits.size();
    const std::byte first = *(end - bytes) & ~kMalformedMark;
    retained.Push({end - bytes, bytes}, message.malformed ? first | kMalformedMark : first);
  }
  retained_peeked = false;
  message_count = next_message = 0;
}

}  // namespace oxmem::tloe
