#ifndef TESTS_OXMEM_TLOE_PEERS_OMNIXTEND_C_PEER_H_
#define TESTS_OXMEM_TLOE_PEERS_OMNIXTEND_C_PEER_H_

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <vector>

#include "tests/oxmem/tloe/peers/scripted_peer.h"

namespace oxmem::tloe {

// omnixtend-c, master or slave. Opens with five frames, one a channel, and speaks only when it has
// credits of all five; four frames in flight, sent again all 100 ms; acknowledges with ACK_ONLY
// frames that carry the next number, a gap too, with ack 1; never asks for a resend.
class OmnixtendCPeer final : public ScriptedPeer {
 public:
  enum class Side { kMaster, kSlave };
  OmnixtendCPeer(Side side, std::size_t bytes) : memory(bytes), side_(side) {}

  // Master: opens.
  void Start(Instant now) {
    for (int i = 0; i < 5; ++i)
      Queue(now, i == 0 ? FrameType::kOpen : FrameType::kNormal, static_cast<uint8_t>(i + 1), 10);
  }
  // Master: one request a frame; false before the connection is open or the window is full.
  bool Request(Instant now, const tilelink::Message& message,
               std::span<const std::byte> data = {}) {
    if (!connected || sent_.size() >= kWindow) return false;
    std::vector<std::byte> flits;
    uint64_t mask = 0;
    Append(&flits, &mask, message, data, tilelink::DataOrder::kSpec);
    Queue(now, FrameType::kNormal, 0, 0, std::move(flits), mask);
    return true;
  }

  void OnDeadline(Instant now) override {
    for (auto& [header, flits, mask] : sent_) {
      header.acknowledged = expected_.Previous();
      Send(header, flits, mask);
    }
    timer_ = sent_.empty() ? Instant::Never() : now + kTimeout;
  }
  Instant next_deadline() const override { return timer_; }

  bool connected = false;
  std::vector<std::byte> memory;
  std::vector<Received> answers;  // master
  int executed = 0;               // slave
  std::array<uint64_t, 5> credits{};
  bool malformed = false;  // the other side sent a frame this one has no room for

 private:
  static constexpr std::size_t kWindow = 4;
  static constexpr std::size_t kMaxFlits = 65;
  static constexpr Duration kTimeout = Duration::Milliseconds(100);

  struct Kept {
    FrameHeader header;
    std::vector<std::byte> flits;
    uint64_t mask;
  };

  void OnFrame(Instant now, const FrameHeader& header, Messages messages) override {
    Acknowledge(now, header);
    if (header.type == FrameType::kAckOnly) return;
    if (header.sequence != expected_) {
      // A duplicate and a gap are the same to it.
      AckOnly();
      return;
    }
    if (header.type == FrameType::kOpen && side_ == Side::kSlave)
      for (uint8_t i = 0; i < 5; ++i) pending_grants_.push_back(i);
    expected_ = expected_.Next();
    if (header.credit_channel >= 1 && header.credit_channel <= 5)
      credits[header.credit_channel - 1u] += uint64_t{1} << header.credit_exponent;
    if (!pending_grants_.empty()) {
      for (const uint8_t i : pending_grants_) Queue(now, FrameType::kNormal, i + 1, 10);
      pending_grants_.clear();
    }
    std::size_t flits = 0;
    for (const auto& message : messages) flits += message.flit_count;
    malformed |= flits > kMaxFlits || messages.size() > 1;
    if (!connected) {
      // Above 2^7 on every channel.
      if (std::all_of(credits.begin(), credits.end(), [](uint64_t c) { return c > 128; })) {
        connected = true;
        if (side_ == Side::kMaster) {
          Queue(now, FrameType::kNormal, 0, 0);
        } else {
          AckOnly();
        }
      }
      if (!messages.empty()) malformed = true;  // spoke before this side was ready
      return;
    }
    for (const auto& message : messages) {
      if (side_ == Side::kMaster) {
        Received received{message.message, Bytes(tilelink::DataBytes(message.message))};
        if (!received.data.empty())
          tilelink::CopyData(message.message, message.payload, tilelink::DataOrder::kSpec,
                             received.data);
        answers.push_back(std::move(received));
      } else {
        Execute(now, message);
      }
    }
    // What was answered with a frame needs no acknowledgement of its own.
    if (side_ == Side::kMaster || messages.empty()) AckOnly();
  }

  void Execute(Instant now, const tilelink::DecodedMessage& request) {
    ++executed;
    const tilelink::Message& message = request.message;
    const std::size_t count = std::size_t{1} << message.size;
    const std::size_t start = message.address % memory.size();
    std::vector<std::byte> flits;
    uint64_t mask = 0;
    if (static_cast<tilelink::OpcodeA>(message.opcode) == tilelink::OpcodeA::kGet) {
      Append(&flits, &mask,
             tilelink::MakeD(tilelink::OpcodeD::kAccessAckData, message.size, message.source),
             std::span(memory).subspan(start, count), tilelink::DataOrder::kSpec);
    } else {
      tilelink::CopyData(message, request.payload, tilelink::DataOrder::kSpec,
                         std::span(memory).subspan(start, count));
      // Its AccessAck says size 0.
      Append(&flits, &mask, tilelink::MakeD(tilelink::OpcodeD::kAccessAck, 0, message.source), {},
             tilelink::DataOrder::kSpec);
    }
    Queue(now, FrameType::kNormal, 1, 1, std::move(flits), mask);
  }

  // Sends and keeps. Its window bounds its requests; answers and the opening go at once.
  void Queue(Instant now, FrameType type, uint8_t channel, uint8_t exponent,
             std::vector<std::byte> flits = {}, uint64_t mask = 0) {
    FrameHeader header;
    header.type = type;
    header.sequence = next_;
    header.acknowledged = expected_.Previous();
    header.credit_channel = channel;
    header.credit_exponent = exponent;
    next_ = next_.Next();
    Send(header, flits, mask);
    sent_.push_back({header, std::move(flits), mask});
    if (timer_.is_never()) timer_ = now + kTimeout;
  }

  void AckOnly() {
    FrameHeader header;
    header.type = FrameType::kAckOnly;
    header.sequence = next_;
    header.acknowledged = expected_.Previous();
    Send(header);
  }

  void Acknowledge(Instant now, const FrameHeader& header) {
    bool progress = false;
    while (!sent_.empty() && header.acknowledged.DistanceFrom(sent_.front().header.sequence) <
                                 SequenceNumber::kHalf) {
      sent_.pop_front();
      progress = true;
    }
    if (progress) timer_ = sent_.empty() ? Instant::Never() : now + kTimeout;
  }

  Side side_;
  SequenceNumber next_;
  SequenceNumber expected_;
  std::deque<Kept> sent_;
  std::vector<uint8_t> pending_grants_;
  Instant timer_ = Instant::Never();
};

}  // namespace oxmem::tloe

#endif  // TESTS_OXMEM_TLOE_PEERS_OMNIXTEND_C_PEER_H_
