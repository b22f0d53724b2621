// The sending half of TloeChannel: requests into messages, messages into frames.

#include <array>

#include "oxmem/channel/split.h"
#include "oxmem/channel/tloe_channel.h"
#include "transport/base/byte_order.h"

namespace oxmem::channel {
namespace {

using tilelink::Message;
using tilelink::OpcodeA;
using transport::AtomicOp;
using transport::Code;
using transport::Op;
using transport::Request;

constexpr FrameFill kNoFill;

struct AtomicEncoding {
  OpcodeA opcode;
  uint8_t param;
};

AtomicEncoding Arithmetic(tilelink::ArithmeticParam param) {
  return {OpcodeA::kArithmeticData, static_cast<uint8_t>(param)};
}

AtomicEncoding Logical(tilelink::LogicalParam param) {
  return {OpcodeA::kLogicalData, static_cast<uint8_t>(param)};
}

AtomicEncoding EncodingOf(AtomicOp op) {
  switch (op) {
    case AtomicOp::kAdd:
      return Arithmetic(tilelink::ArithmeticParam::kAdd);
    case AtomicOp::kMin:
      return Arithmetic(tilelink::ArithmeticParam::kMin);
    case AtomicOp::kMax:
      return Arithmetic(tilelink::ArithmeticParam::kMax);
    case AtomicOp::kMinUnsigned:
      return Arithmetic(tilelink::ArithmeticParam::kMinU);
    case AtomicOp::kMaxUnsigned:
      return Arithmetic(tilelink::ArithmeticParam::kMaxU);
    case AtomicOp::kSwap:
      return Logical(tilelink::LogicalParam::kSwap);
    case AtomicOp::kAnd:
      return Logical(tilelink::LogicalParam::kAnd);
    case AtomicOp::kOr:
      return Logical(tilelink::LogicalParam::kOr);
    case AtomicOp::kXor:
      return Logical(tilelink::LogicalParam::kXor);
    case AtomicOp::kCompareSwap:
      break;  // not in the limits: TileLink has none
  }
  OXMEM_CHECK(false);
}

// The message for the next part of the request; source is filled in by the caller.
Message NextMessageOf(const Request& request, const Piece& piece, uint64_t base) {
  const uint64_t address = base + request.offset + piece.offset;
  const uint8_t size = piece.size;
  switch (request.op) {
    case Op::kRead:
      return tilelink::MakeA(OpcodeA::kGet, size, 0, address);
    case Op::kWrite:
      return tilelink::MakeA(OpcodeA::kPutFullData, size, 0, address);
    case Op::kPrefetch:
      return tilelink::MakeA(OpcodeA::kIntent, size, 0, address,
                             static_cast<uint8_t>(tilelink::IntentParam::kPrefetchRead));
    case Op::kAtomic: {
      const AtomicEncoding encoding = EncodingOf(request.atomic_op);
      return tilelink::MakeA(encoding.opcode, size, 0, address, encoding.param);
    }
    case Op::kFlush:
    case Op::kZero:
      break;  // a flush has no message; zero is not in the limits
  }
  OXMEM_CHECK(false);
}

}  // namespace

void TloeChannel::SendRequests() {
  while (requests_.unsent() != RequestTable::kNone) {
    const uint32_t index = requests_.unsent();
    const ActiveRequest& active = requests_[index];
    while (active.code == Code::kOk && !active.all_sent()) {
      if (!SendNextMessage(index)) return;
    }
    requests_.AdvanceUnsent();
  }
}

bool TloeChannel::SendNextMessage(uint32_t request_index) {
  if (!messages_.available()) return false;
  ActiveRequest& active = requests_[request_index];
  const bool read = active.request.op == Op::kRead;
  const uint8_t largest = read ? LargestReadOf(active) : largest_message_size_;
  const FrameFill& fill = read ? read_fill_ : write_fill_;
  const Piece piece =
      NextPiece(options_.base_address + active.request.offset, active.request.length, active.sent,
                largest, largest < fill.large ? kNoFill : fill);
  Message message = NextMessageOf(active.request, piece, options_.base_address);
  const std::size_t length = std::size_t{1} << message.size;
  tilelink::MemoryPayload payload;
  std::array<std::byte, 8> operand;
  if (active.request.op == Op::kWrite) {
    payload.data = std::span<const std::byte>(active.request.buffer + piece.offset, length);
  } else if (active.request.op == Op::kAtomic) {
    StoreLittleEndian(operand.data(), active.request.operand);
    payload.data = std::span<const std::byte>(operand).first(length);
  }

  const uint32_t index = messages_.Take();
  message.source = messages_.SourceOf(index);
  if (!engine_.Enqueue(message, payload)) {
    messages_.PutBack(index);
    return false;
  }
  messages_[index].offset = piece.offset;
  messages_[index].size = message.size;
  messages_[index].opcode = message.opcode;
  LinkMessage(request_index, index);
  active.sent += length;
  return true;
}

void TloeChannel::SendFrames(Instant now) {
  for (;;) {
    outgoing_.clear();
    while (outgoing_.size() < outgoing_.capacity()) {
      const std::span<const std::byte> frame = engine_.NextFrame(now);
      if (frame.empty()) break;
      outgoing_.push_back({peer_, frame});
    }
    if (outgoing_.empty()) break;
    link_status_ = link_->Send(outgoing_);
    if (outgoing_.size() < outgoing_.capacity()) break;
  }
}

}  // namespace oxmem::channel
