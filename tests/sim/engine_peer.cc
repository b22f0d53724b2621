#include "tests/sim/engine_peer.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "oxmem/tloe/frame.h"
#include "transport/base/check.h"

namespace oxmem::sim {

using tilelink::Channel;
using tilelink::Message;
using tloe::FrameVerdict;
using tloe::State;

namespace {

// After a failure nothing is opened until frames of the old connection have left the network.
constexpr Duration kQuiet = Duration::Milliseconds(100);
constexpr Duration kThinking = Duration::Microseconds(30);

uint64_t Mix(uint64_t value) {
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
  value = (value ^ value >> 27) * 0x94d049bb133111eb;
  return value ^ value >> 31;
}

// Everything of a message follows from its channel and number.
Message MessageOf(Channel channel, uint32_t number, uint8_t incarnation, uint8_t largest) {
  uint64_t bits = Mix(number * 5 + IndexOf(channel) + 1);
  Message message;
  message.channel = channel;
  if (channel == Channel::kE) {
    message.sink = number & tilelink::kMaxSink;
    return message;
  }
  do {
    bits = Mix(bits);
    message.opcode = bits & 7;
  } while (!tilelink::IsKnown(message));
  message.size = static_cast<uint8_t>((bits >> 8) % (largest + 1u));
  // Small ones are what a busy connection carries most.
  if ((bits >> 16 & 3) != 0) message.size = std::min<uint8_t>(message.size, 6);
  message.param = (bits >> 20) & 15;
  message.denied = (bits >> 24) & 1;
  message.domain = incarnation;
  message.source = number & tilelink::kMaxSource;
  if (tilelink::HasAddress(message)) message.address = Mix(bits) >> message.size << message.size;
  if (tilelink::HasSink(message))
    message.sink = static_cast<uint32_t>(bits >> 32) & tilelink::kMaxSink;
  return message;
}

std::vector<std::byte> DataOf(const Message& message) {
  std::vector<std::byte> data(tilelink::DataBytes(message));
  uint64_t bits = Mix(message.source * 8 + static_cast<uint64_t>(message.channel));
  for (std::size_t i = 0; i < data.size(); ++i) {
    if (i % 8 == 0) bits = Mix(bits + i);
    data[i] = static_cast<std::byte>(bits >> (8 * (i % 8)));
  }
  return data;
}

}  // namespace

EnginePeer::EnginePeer(const tloe::EngineConfig& config, std::unique_ptr<link::Link> link,
                       uint64_t seed)
    : config_(config),
      engine_(std::make_unique<tloe::Engine>(config)),
      link_(std::move(link)),
      random_(seed) {}

void EnginePeer::Wrong(const std::string& what) {
  if (checking_ && error_.empty())
    error_ =
        std::string(config_.role == tloe::Role::kInitiator ? "initiator: " : "responder: ") + what;
}

void EnginePeer::Forget() {
  connected_ = false;
  ++incarnation_;
  peer_incarnation_ = -1;
  next_number_.fill(0);
  expected_.fill(0);
  pending_.ready = false;
}

void EnginePeer::Open(Instant now) {
  open_again_ = Instant::Never();
  engine_->Open(now);
}

void EnginePeer::Restart() {
  engine_ = std::make_unique<tloe::Engine>(config_);
  open_again_ = Instant::Never();
  Forget();
}

void EnginePeer::GiveUp(Instant now) {
  engine_->Reset();
  Forget();
  open_again_ = user_again_ = now + kQuiet;
}

void EnginePeer::Step(Instant now) {
  if (now < stalled_until_) return;
  now_ = now;
  user_again_ = Instant::Never();
  if (now >= open_again_) Open(now);
  Receive(now);
  if (engine_->next_deadline() <= now) engine_->OnDeadline(now);
  TakeMessages(now);
  if (engine_->state() == State::kOpen && !connected_) {
    connected_ = true;
    ++connections_;
  }
  Produce(now);
  Drain(now);
  if (engine_->state() == State::kFailed) {
    ++failures_;
    last_failure_ = engine_->failure();
    ++failures_for_[static_cast<std::size_t>(last_failure_)];
    engine_->Reset();
    Forget();
    if (config_.role == tloe::Role::kInitiator) open_again_ = now + kQuiet;
  }
  user_again_ = std::min(user_again_, open_again_);
}

void EnginePeer::Receive(Instant now) {
  std::array<link::IncomingFrame, 8> frames;
  for (;;) {
    const std::size_t count = link_->Receive(frames);
    for (std::size_t i = 0; i < count; ++i) OnFrame(now, frames[i]);
    if (count < frames.size()) return;
  }
}

void EnginePeer::OnFrame(Instant now, const link::IncomingFrame& frame) {
  FrameVerdict verdict = engine_->OnFrame(now, frame.bytes);
  if (verdict == FrameVerdict::kNewPeer) {
    engine_->Reset();
    Forget();
    verdict = engine_->OnFrame(now, frame.bytes);
    if (verdict == FrameVerdict::kNewPeer) Wrong("a new peer over an engine without one");
  }
  if (verdict == FrameVerdict::kIgnored && engine_->state() == State::kIdle &&
      config_.role == tloe::Role::kResponder) {
    std::array<std::byte, tloe::Engine::kRefusalBytes> bytes;
    const auto refusal = tloe::Engine::RefusalFor(config_, frame.bytes, bytes);
    if (!refusal.empty()) SendFrame(refusal);
  }
  TakeMessages(now);
}

// Sometimes a user is busy and leaves some for later.
void EnginePeer::TakeMessages(Instant now) {
  uint64_t most = random_.Chance(0.2) ? random_.Below(4) : UINT64_MAX;
  for (; most > 0; --most) {
    const tilelink::DecodedMessage* peeked = random_.Chance(0.5) ? engine_->PeekMessage() : nullptr;
    const tilelink::DecodedMessage* decoded = engine_->NextMessage();
    if (peeked != nullptr && peeked != decoded) Wrong("NextMessage is not what PeekMessage showed");
    if (decoded == nullptr) return;
    Check(*decoded);
  }
  engine_->Retain();
  user_again_ = now + kThinking;
}

void EnginePeer::Check(const tilelink::DecodedMessage& decoded) {
  ++received_;
  if (!checking_) return;
  const Message& message = decoded.message;
  uint32_t& expected = expected_[IndexOf(message.channel)];
  const uint32_t number = message.channel == Channel::kE ? message.sink : message.source;
  if (number != expected) {
    Wrong(std::string("channel ") + tilelink::LetterOf(message.channel) + ": number " +
          std::to_string(number) + " instead of " + std::to_string(expected));
    return;
  }
  ++expected;
  if (message.channel != Channel::kE) {
    if (peer_incarnation_ < 0) peer_incarnation_ = message.domain;
    if (peer_incarnation_ != message.domain) Wrong("a message of an earlier connection");
  }
  Message wanted = MessageOf(message.channel, number, message.domain,
                             tloe::Engine::LargestDataSize(config_.max_frame_bytes));
  if (tilelink::FlitsOf(message) > engine_->max_message_flits()) Wrong("a message too long");
  if (wanted.size != message.size) wanted.size = message.size;  // the sender made it fit
  if (!(wanted == message)) {
    Wrong("a message that was not sent");
    return;
  }
  if (!tilelink::HasData(message)) return;
  std::vector<std::byte> data(tilelink::DataBytes(message));
  Message placed = message;
  if (!tilelink::HasAddress(message)) placed.address = message.source & 7;
  tilelink::CopyData(placed, decoded.payload, engine_->data_order(), data);
  if (data != DataOf(message)) Wrong("data that was not sent");
}

void EnginePeer::Produce(Instant now) {
  if (engine_->state() != State::kOpen) return;
  uint64_t most = random_.Chance(0.3) ? random_.Below(8) : 64;
  while (to_send_ > 0 && most-- > 0)
    if (!ProduceOne()) return;
  if (to_send_ > 0) user_again_ = now + kThinking;
}

bool EnginePeer::ProduceOne() {
  if (!pending_.ready) {
    const Channel channel = tilelink::ChannelAt(random_.Below(tilelink::kChannelCount));
    Message message = MessageOf(channel, next_number_[IndexOf(channel)], incarnation_,
                                tloe::Engine::LargestDataSize(config_.max_frame_bytes));
    while (tilelink::FlitsOf(message) > engine_->max_message_flits()) --message.size;
    if (config_.receive_flits[IndexOf(channel)] == 0) return true;
    pending_.message = message;
    if (!tilelink::HasAddress(message) && tilelink::HasData(message))
      pending_.message.address = message.source & 7;
    pending_.data = DataOf(message);
    pending_.mask.assign((pending_.data.size() + 63) / 64, Mix(message.source));
    pending_.ready = true;
  }
  const std::size_t flits = tilelink::FlitsOf(pending_.message);
  const bool can = engine_->CanEnqueue(pending_.message.channel, flits);
  const bool done = engine_->Enqueue(pending_.message, {pending_.data, pending_.mask});
  if (can != done) Wrong("CanEnqueue and Enqueue disagree");
  if (!done) return false;
  pending_.ready = false;
  ++next_number_[IndexOf(pending_.message.channel)];
  --to_send_;
  ++sent_;
  return true;
}

// Several frames are handed out before any is sent: they must stay valid.
void EnginePeer::Drain(Instant now) {
  std::array<std::span<const std::byte>, 16> frames;
  for (;;) {
    std::size_t count = 0;
    while (count < frames.size()) {
      frames[count] = engine_->NextFrame(now);
      if (frames[count].empty()) break;
      if (frames[count].size() > config_.max_frame_bytes) Wrong("a frame too long");
      ++count;
      if (random_.Chance(0.1)) Produce(now);
    }
    for (std::size_t i = 0; i < count; ++i) SendFrame(frames[i]);
    if (count < frames.size()) return;
  }
}

// OXMEM_SIM_TRACE=1 shows what a failing seed does.
void EnginePeer::Trace(std::span<const std::byte> frame) const {
  static const bool tracing = std::getenv("OXMEM_SIM_TRACE") != nullptr;
  const auto parsed = tracing ? tloe::ParseFrame(frame) : std::nullopt;
  if (!parsed) return;
  const tloe::FrameHeader& header = parsed->header;
  std::fprintf(stderr, "%12.3f %c type %d seq %x %s %x credit %d/%d mask %llx bytes %zu\n",
               static_cast<double>(now_.nanoseconds()) * 1e-6,
               config_.role == tloe::Role::kInitiator ? 'I' : 'R', static_cast<int>(header.type),
               header.sequence.wire(), header.ack ? "ack" : "NAK", header.acknowledged.wire(),
               header.credit_channel, header.credit_exponent,
               static_cast<unsigned long long>(parsed->mask), frame.size());
}

void EnginePeer::SendFrame(std::span<const std::byte> frame) {
  Trace(frame);
  const link::OutgoingFrame outgoing{peer_, frame};
  OXMEM_CHECK(link_->Send({&outgoing, 1}).ok());
}

}  // namespace oxmem::sim
