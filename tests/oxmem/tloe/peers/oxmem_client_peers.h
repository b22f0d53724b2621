#ifndef TESTS_OXMEM_TLOE_PEERS_OXMEM_CLIENT_PEERS_H_
#define TESTS_OXMEM_TLOE_PEERS_OXMEM_CLIENT_PEERS_H_

#include <algorithm>
#include <map>
#include <vector>

#include "tests/oxmem/tloe/peers/scripted_peer.h"

namespace oxmem::tloe {

// oxmem-fuse and oxmem-fuse-dax: every request has source 0 and is matched by the acknowledged
// number of its answer; nothing is ever sent again, credits are not looked at.
class OxmemFusePeer final : public ScriptedPeer {
 public:
  void Start() {
    FrameHeader header = Next(FrameType::kOpen);
    header.acknowledged = SequenceNumber::FromWire(SequenceNumber::kModulus - 1);
    header.ack = false;
    header.credit_channel = 1;
    header.credit_exponent = 28;
    Send(header);
  }
  // Returns the frame number of the request, its answer is under it in `answers`.
  uint32_t Request(const tilelink::Message& message, std::span<const std::byte> data = {}) {
    std::vector<std::byte> flits;
    uint64_t mask = 0;
    Append(&flits, &mask, message, data, tilelink::DataOrder::kMemory);
    const FrameHeader header = Next(FrameType::kNormal);
    outstanding_[header.sequence.wire()] = true;
    Send(header, std::move(flits), mask);
    return header.sequence.wire();
  }
  void Close() { Send(Next(FrameType::kClose)); }

  bool mounted = false;  // the opening was answered
  bool closed = false;   // the close was answered
  std::map<uint32_t, Received> answers;
  int unknown_answers = 0;
  int lone_acks = 0;

 private:
  void OnFrame(Instant, const FrameHeader& header, Messages messages) override {
    last_ = header.sequence;
    if (header.type == FrameType::kClose) {
      closed = true;
      return;
    }
    if (!mounted) {
      mounted = true;
      FrameHeader grant = Next(FrameType::kNormal);
      grant.ack = false;
      grant.credit_channel = 4;
      grant.credit_exponent = 28;
      Send(grant);
      return;
    }
    if (header.type == FrameType::kAckOnly) ++lone_acks;
    const auto found = outstanding_.find(header.acknowledged.wire());
    if (found == outstanding_.end() || messages.size() != 1) {
      if (!messages.empty() || found != outstanding_.end()) ++unknown_answers;
      return;
    }
    outstanding_.erase(found);
    const auto& message = messages[0];
    Received received{message.message, Bytes(tilelink::DataBytes(message.message))};
    if (!received.data.empty())
      tilelink::CopyData(message.message, message.payload, tilelink::DataOrder::kMemory,
                         received.data);
    answers[header.acknowledged.wire()] = std::move(received);
  }

  FrameHeader Next(FrameType type) {
    FrameHeader header;
    header.type = type;
    header.sequence = next_;
    header.acknowledged = last_;
    next_ = next_.Next();
    return header;
  }

  SequenceNumber next_;
  SequenceNumber last_;
  std::map<uint32_t, bool> outstanding_;
};

// oxmem-nbd: opens and grants at once, answers every frame that is no lone acknowledgement with an
// empty frame, packs up to 32 Gets, matches by source, replays a request after 100 ms.
class OxmemNbdPeer final : public ScriptedPeer {
 public:
  void Start() {
    FrameHeader open = Next(FrameType::kOpen);
    open.acknowledged = SequenceNumber::FromWire(SequenceNumber::kModulus - 1);
    open.ack = false;
    open.credit_channel = 1;
    open.credit_exponent = 20;
    Send(open);
    FrameHeader grant = Next(FrameType::kNormal);
    grant.acknowledged = open.acknowledged;
    grant.credit_channel = 4;
    grant.credit_exponent = 20;
    Send(grant);
  }
  void Gets(Instant now, const std::vector<tilelink::Message>& messages) {
    std::vector<std::byte> flits;
    uint64_t mask = 0;
    for (const auto& message : messages) {
      Append(&flits, &mask, message, {}, tilelink::DataOrder::kMemory);
      outstanding_[message.source] = {message, {}, now + kReplay};
    }
    Send(Next(FrameType::kNormal), std::move(flits), mask);
  }
  void Put(Instant now, const tilelink::Message& message, const Bytes& data) {
    std::vector<std::byte> flits;
    uint64_t mask = 0;
    Append(&flits, &mask, message, data, tilelink::DataOrder::kMemory);
    outstanding_[message.source] = {message, data, now + kReplay};
    Send(Next(FrameType::kNormal), std::move(flits), mask);
  }

  void OnDeadline(Instant now) override {
    for (auto& [source, request] : outstanding_) {
      if (request.replay > now) continue;
      ++replays;
      std::vector<std::byte> flits;
      uint64_t mask = 0;
      Append(&flits, &mask, request.message, request.data, tilelink::DataOrder::kMemory);
      Send(Next(FrameType::kNormal), std::move(flits), mask);
      request.replay = now + kReplay;
    }
  }
  Instant next_deadline() const override {
    Instant next = Instant::Never();
    for (const auto& [source, request] : outstanding_) next = std::min(next, request.replay);
    return next;
  }

  bool answered = false;
  int replays = 0;
  std::map<uint32_t, Received> answers;  // by source

 private:
  static constexpr Duration kReplay = Duration::Milliseconds(100);
  struct Request {
    tilelink::Message message;
    Bytes data;
    Instant replay;
  };

  void OnFrame(Instant, const FrameHeader& header, Messages messages) override {
    if (header.type == FrameType::kAckOnly) return;
    answered = true;
    last_ = header.sequence;  // gaps are passed over
    for (const auto& message : messages) {
      if (outstanding_.erase(message.message.source) == 0) continue;
      Received received{message.message, Bytes(tilelink::DataBytes(message.message))};
      if (!received.data.empty())
        tilelink::CopyData(message.message, message.payload, tilelink::DataOrder::kMemory,
                           received.data);
      answers[message.message.source] = std::move(received);
    }
    Send(Next(FrameType::kNormal));
  }

  FrameHeader Next(FrameType type) {
    FrameHeader header;
    header.type = type;
    header.sequence = next_;
    header.acknowledged = last_;
    next_ = next_.Next();
    return header;
  }

  SequenceNumber next_;
  SequenceNumber last_;
  std::map<uint32_t, Request> outstanding_;
};

}  // namespace oxmem::tloe

#endif  // TESTS_OXMEM_TLOE_PEERS_OXMEM_CLIENT_PEERS_H_
