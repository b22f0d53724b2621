#ifndef TESTS_OXMEM_TLOE_PEERS_MEMORY_NODE_PEER_H_
#define TESTS_OXMEM_TLOE_PEERS_MEMORY_NODE_PEER_H_

#include <vector>

#include "tests/oxmem/tloe/peers/scripted_peer.h"

namespace oxmem::tloe {

// MemoryNode: executes whatever number a frame has, answers every request in a frame of its own
// that names the request's frame, answers frames without messages alike, and never sends a frame
// again. Memory lies on the wire as it lies.
class MemoryNodePeer final : public ScriptedPeer {
 public:
  explicit MemoryNodePeer(std::size_t bytes) : memory(bytes) {}

  std::vector<std::byte> memory;
  int executed = 0;  // requests, repeated ones included
  int restarts = 0;

  void Restart() {
    open_ = false;
    next_ = 0;
  }

 private:
  static constexpr uint8_t kCreditExponent = 10;
  static constexpr int kLargestSize = 10;

  void OnFrame(Instant, const FrameHeader& header, Messages messages) override {
    virtual_channel_ = header.virtual_channel;
    switch (header.type) {
      case FrameType::kOpen:
        if (header.sequence.wire() != 0) return;
        open_ = true;
        next_ = 0;
        Answer(header, 1, kCreditExponent);
        return;
      case FrameType::kClose:
        if (!open_) return;
        Answer(header, 0, kCreditExponent, FrameType::kClose);
        open_ = false;
        return;
      case FrameType::kAckOnly:
        return;
      case FrameType::kNormal:
        break;
    }
    if (!open_) return;
    if (messages.empty()) Answer(header, 1, kCreditExponent);
    for (const auto& message : messages) Execute(header, message);
  }

  void Execute(const FrameHeader& header, const tilelink::DecodedMessage& request) {
    using tilelink::OpcodeA;
    const tilelink::Message& message = request.message;
    const auto opcode = static_cast<OpcodeA>(message.opcode);
    if (opcode != OpcodeA::kGet && opcode != OpcodeA::kPutFullData) return;
    if (message.size > kLargestSize) {
      next_ = (next_ + 1) % SequenceNumber::kModulus;  // built, and not sent
      return;
    }
    ++executed;
    const std::size_t count = std::size_t{1} << message.size;
    const std::size_t start = message.address % memory.size();
    std::vector<std::byte> flits;
    uint64_t mask = 0;
    tilelink::Message answer =
        tilelink::MakeD(tilelink::OpcodeD::kAccessAck, message.size, message.source);
    uint8_t credit = 0;
    if (opcode == OpcodeA::kGet) {
      answer.opcode = static_cast<uint8_t>(tilelink::OpcodeD::kAccessAckData);
      Append(&flits, &mask, answer, std::span(memory).subspan(start, count),
             tilelink::DataOrder::kMemory);
    } else {
      tilelink::CopyData(message, request.payload, tilelink::DataOrder::kMemory,
                         std::span(memory).subspan(start, count));
      Append(&flits, &mask, answer, {}, tilelink::DataOrder::kMemory);
      credit = static_cast<uint8_t>(message.size - 3) & 31;
    }
    Answer(header, 1, credit, FrameType::kNormal, std::move(flits), mask);
  }

  void Answer(const FrameHeader& to, uint8_t channel, uint8_t credit,
              FrameType type = FrameType::kNormal, std::vector<std::byte> flits = {},
              uint64_t mask = 0) {
    FrameHeader header;
    header.virtual_channel = virtual_channel_;
    header.type = type;
    header.sequence = SequenceNumber::FromWire(next_++);
    header.acknowledged = to.sequence;
    header.credit_channel = channel;
    header.credit_exponent = credit;
    Send(header, std::move(flits), mask);
  }

  bool open_ = false;
  uint32_t next_ = 0;
  uint8_t virtual_channel_ = 0;
};

}  // namespace oxmem::tloe

#endif  // TESTS_OXMEM_TLOE_PEERS_MEMORY_NODE_PEER_H_
