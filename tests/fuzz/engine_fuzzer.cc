// An engine that starts in a chosen state and is driven by the input: frames of any bytes, frames
// that fit the connection nearly, messages, time, deadlines, closes and resets. It must not crash,
// hang, send what is no frame, or contradict itself.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "oxmem/tloe/engine.h"
#include "oxmem/tloe/frame.h"
#include "tests/fuzz/byte_source.h"
#include "transport/base/byte_order.h"
#include "transport/base/check.h"

namespace {

using oxmem::Duration;
using oxmem::Instant;
using oxmem::fuzz::ByteSource;
using oxmem::tilelink::Channel;
using oxmem::tilelink::DataOrder;
using oxmem::tilelink::DecodedMessage;
using oxmem::tilelink::kFlitBytes;
using oxmem::tilelink::Message;
using oxmem::tloe::Engine;
using oxmem::tloe::EngineConfig;
using oxmem::tloe::FrameHeader;
using oxmem::tloe::FrameType;
using oxmem::tloe::FrameVerdict;
using oxmem::tloe::ParseFrame;
using oxmem::tloe::PeerProfile;
using oxmem::tloe::Protocol;
using oxmem::tloe::Role;
using oxmem::tloe::SequenceNumber;
using oxmem::tloe::State;

constexpr std::size_t kFrameBytes = 1496;

EngineConfig ConfigFrom(ByteSource& input) {
  EngineConfig config;
  const uint8_t bits = input.Byte();
  config.role = (bits & 1) != 0 ? Role::kResponder : Role::kInitiator;
  config.protocol = (bits & 2) != 0 ? Protocol::k103 : Protocol::k11;
  config.peer = static_cast<PeerProfile>((bits >> 2) % 6);
  const uint8_t sizes = input.Byte();
  constexpr std::array<std::size_t, 4> kFrames = {56, 200, 1024, kFrameBytes};
  config.max_frame_bytes = kFrames[sizes & 3];
  config.max_start_of_message_flit = (sizes & 4) != 0 ? 1 : 64;
  config.window_frames = (sizes & 8) != 0 ? 8 : 16;
  config.resend_buffer_bytes = (sizes & 16) != 0 ? 1 : 16 * 1024;
  const uint32_t flits = (sizes & 32) != 0 ? 16 : 1024;
  config.receive_flits = {flits, flits, flits, flits, (sizes & 64) != 0 ? 0 : flits};
  config.initial_sequence = (sizes & 128) != 0 ? SequenceNumber::kModulus - 3 : 0;
  return config;
}

// Of the process and not of each call, as they are large: data of a received message, and the
// messages of a sent frame.
std::array<std::byte, std::size_t{1} << 15> out_of_engine;
oxmem::tloe::MessageArray sent_messages;

class Driver {
 public:
  explicit Driver(ByteSource& input) : input_(input), config_(ConfigFrom(input)), engine_(config_) {
    expected_ = SequenceNumber::FromWire(config_.initial_sequence);
    sent_ = expected_.Previous();
  }

  void Run() {
    if (config_.role == Role::kInitiator) engine_.Open(now_);
    if ((input_.Byte() & 3) != 0) Connect();
    for (int step = 0; step < 200 && !input_.empty(); ++step) Act();
    Settle();
  }

 private:
  // The other side's opening, so that most inputs start with a connection.
  void Connect() {
    Drain();
    FrameHeader header;
    header.sequence = SequenceNumber::FromWire(config_.initial_sequence);
    const bool responder = config_.role == Role::kResponder;
    header.type = responder ? FrameType::kOpen : FrameType::kNormal;
    header.acknowledged = responder || config_.protocol == Protocol::k103
                              ? header.sequence.Previous()
                              : header.sequence;
    for (uint8_t channel = 1; channel <= 5; ++channel) {
      header.credit_channel = channel;
      header.credit_exponent = 10;
      Feed(header, {}, 0);
      header.type = FrameType::kNormal;
      header.sequence = header.sequence.Next();
    }
    Drain();
  }

  void Act() {
    switch (input_.Below(12)) {
      case 0:
        FeedBytes(input_.Bytes(input_.Byte() * std::size_t{2}));
        break;
      case 1:
      case 2:
      case 3:
        FeedNearly();
        break;
      case 4:
      case 5:
        Enqueue();
        break;
      case 6:
        Drain();
        break;
      case 7:
        Take();
        break;
      case 8:
        now_ = now_ + Duration::Microseconds(input_.Short() * int64_t{10});
        OnDeadline();
        break;
      case 9:
        now_ = std::max(now_, std::min(engine_.next_deadline(), now_ + Duration::Seconds(10)));
        OnDeadline();
        break;
      case 10:
        engine_.Probe(now_);
        break;
      default:
        Rare();
        break;
    }
  }

  void Rare() {
    switch (input_.Below(6)) {
      case 0:
        engine_.Close(now_);
        break;
      case 1:
        Reset();
        break;
      case 2:
        Refuse();
        break;
      default:
        Drain();
        break;
    }
  }

  void Reset() {
    engine_.Reset();
    OXMEM_CHECK(engine_.state() == State::kIdle);
    OXMEM_CHECK(engine_.NextMessage() == nullptr);
    OXMEM_CHECK(engine_.NextFrame(now_).empty());
    expected_ = SequenceNumber::FromWire(config_.initial_sequence);
    sent_ = expected_.Previous();
    if (config_.role == Role::kInitiator) engine_.Open(now_);
  }

  void OnDeadline() {
    engine_.OnDeadline(now_);
    Drain();
    // Nothing is due at once again, or the owner would spin.
    OXMEM_CHECK(engine_.next_deadline() > now_);
  }

  // A frame whose numbers lie near those of the connection.
  void FeedNearly() {
    FrameHeader header;
    const uint8_t bits = input_.Byte();
    header.virtual_channel = (bits & 0x80) != 0 && (bits & 0x40) != 0 ? 1 : 0;
    header.type = static_cast<FrameType>((bits & 0x30) == 0x30 ? bits & 3 : 0);
    header.ack = (bits & 0x08) == 0;
    const uint8_t near = input_.Byte();
    header.sequence = expected_ + static_cast<uint64_t>(kOffsets[near & 7]);
    header.acknowledged = sent_ + static_cast<uint64_t>(kOffsets[near >> 3 & 7]);
    const uint8_t credit = input_.Byte();
    header.credit_channel = credit & 7;
    header.credit_exponent = credit >> 3;
    const uint64_t mask = (near & 0x40) != 0 ? input_.Word() : 0;
    std::array<std::byte, 512> flits;
    std::size_t length = kFlitBytes * 5;
    if (mask != 0) {
      const auto bytes = input_.Bytes(input_.Byte() * std::size_t{2});
      length = std::max(length, bytes.size() / kFlitBytes * kFlitBytes);
      std::fill_n(flits.begin(), length, std::byte{0});
      std::copy_n(bytes.begin(), std::min(bytes.size(), length), flits.begin());
    } else if ((near & 0x80) != 0) {
      // A message that decodes, as most random words do not.
      const Message message = RandomMessage();
      length = std::max(length, oxmem::tilelink::FlitsOf(message) * kFlitBytes);
      if (length > flits.size()) return;
      std::fill_n(flits.begin(), length, std::byte{0});
      oxmem::tilelink::EncodeMessage(
          message, {std::span(data_).first(oxmem::tilelink::DataBytes(message)), masks_},
          DataOrder::kSpec, flits);
      Feed(header, std::span(flits).first(length), 1);
      return;
    }
    Feed(header, std::span(flits).first(mask != 0 ? length : 0), mask);
  }

  Message RandomMessage() {
    Message message;
    message.channel = oxmem::tilelink::ChannelAt(input_.Below(5));
    message.opcode = message.channel == Channel::kE ? 0 : input_.Byte() & 7;
    if (!oxmem::tilelink::IsKnown(message)) message.opcode = 0;
    if (message.channel == Channel::kE) return message;
    message.size = input_.Byte() % 9;
    message.source = input_.Byte();
    return message;
  }

  void Feed(const FrameHeader& header, std::span<const std::byte> flits, uint64_t mask) {
    std::array<std::byte, 1024> frame;
    const std::size_t words = std::max<std::size_t>(flits.size() / kFlitBytes, 5);
    std::fill_n(frame.begin(), (2 + words) * kFlitBytes, std::byte{0});
    oxmem::StoreBigEndian(frame.data(), oxmem::tloe::EncodeFrameHeader(header));
    std::copy(flits.begin(), flits.end(), frame.begin() + kFlitBytes);
    oxmem::StoreBigEndian(frame.data() + (1 + words) * kFlitBytes, mask);
    FeedBytes(std::span(frame).first((2 + words) * kFlitBytes));
  }

  void FeedBytes(std::span<const std::byte> frame) {
    const State before = engine_.state();
    const FrameVerdict verdict = engine_.OnFrame(now_, frame);
    if (verdict == FrameVerdict::kNewPeer) {
      OXMEM_CHECK(config_.role == Role::kResponder);
      OXMEM_CHECK(engine_.state() == State::kFailed || engine_.state() == State::kClosed);
      Reset();
      OXMEM_CHECK(engine_.OnFrame(now_, frame) != FrameVerdict::kNewPeer);
    } else if (verdict == FrameVerdict::kMalformed) {
      OXMEM_CHECK(engine_.state() == before);
    }
    // The frame's bytes go with this call.
    if ((input_.Byte() & 1) != 0) Take();
    engine_.Retain();
  }

  void Take() {
    for (int most = input_.Below(8); most >= 0; --most) {
      const DecodedMessage* peeked = engine_.PeekMessage();
      const DecodedMessage* message = engine_.NextMessage();
      OXMEM_CHECK((peeked == nullptr) == (message == nullptr));
      if (message == nullptr) return;
      if (message->malformed) continue;
      OXMEM_CHECK(oxmem::tilelink::IsKnown(message->message));
      const std::size_t bytes = oxmem::tilelink::DataBytes(message->message);
      if (bytes == 0) continue;
      OXMEM_CHECK(bytes <= out_of_engine.size());
      oxmem::tilelink::CopyData(message->message, message->payload, engine_.data_order(),
                                std::span(out_of_engine).first(bytes));
    }
  }

  void Enqueue() {
    const Message message = RandomMessage();
    const std::size_t flits = oxmem::tilelink::FlitsOf(message);
    const bool can = engine_.CanEnqueue(message.channel, flits);
    OXMEM_CHECK(!can || engine_.state() == State::kOpen);
    const bool done = engine_.Enqueue(
        message, {std::span(data_).first(oxmem::tilelink::DataBytes(message)), masks_});
    OXMEM_CHECK(can == done);
  }

  void Drain() {
    for (int frames = 0;; ++frames) {
      OXMEM_CHECK(frames < 1000);
      const auto frame = engine_.NextFrame(now_);
      if (frame.empty()) return;
      OXMEM_CHECK(frame.size() <= std::max<std::size_t>(config_.max_frame_bytes, 56));
      OXMEM_CHECK(frame.size() >= 56);
      const auto parsed = ParseFrame(frame);
      OXMEM_CHECK(parsed.has_value());
      OXMEM_CHECK(oxmem::tloe::DecodeMessages(*parsed, &sent_messages).all_well_formed());
      OXMEM_CHECK(parsed->header.virtual_channel == config_.virtual_channel);
      expected_ = parsed->header.acknowledged.Next();
      sent_ = parsed->header.sequence;
    }
  }

  void Refuse() {
    std::array<std::byte, Engine::kRefusalBytes> to;
    const auto frame = input_.Bytes(64);
    const auto refusal = Engine::RefusalFor(config_, frame, to);
    OXMEM_CHECK(refusal.empty() || ParseFrame(refusal).has_value());
    // Two that know no connection must not refuse each other for ever.
    std::array<std::byte, Engine::kRefusalBytes> again;
    OXMEM_CHECK(refusal.empty() || Engine::RefusalFor(config_, refusal, again).empty());
  }

  // Left alone, a connection ends or comes to rest.
  void Settle() {
    for (int i = 0; i < 200; ++i) {
      Drain();
      const Instant next = engine_.next_deadline();
      if (next.is_never()) return;
      now_ = std::max(now_, next);
      OnDeadline();
    }
    OXMEM_CHECK(false);
  }

  static constexpr std::array<int, 8> kOffsets = {0, 0, 0, 0, 1, -1, -2, 1000};

  ByteSource& input_;
  EngineConfig config_;
  Engine engine_;
  Instant now_ = Instant::FromNanoseconds(1000000000);
  SequenceNumber expected_;  // of the other side, as the engine's acknowledgements say
  SequenceNumber sent_;      // by the engine
  std::array<std::byte, 256> data_{};
  std::array<uint64_t, 4> masks_{~uint64_t{0}, 5, 0, 0xff00};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  ByteSource input(data, size);
  Driver(input).Run();
  return 0;
}
