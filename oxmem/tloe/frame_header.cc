#include "oxmem/tloe/frame_header.h"

namespace oxmem::tloe {
namespace {

constexpr int kVirtualChannelShift = 61;
constexpr int kTypeShift = 57;
constexpr int kSequenceShift = 32;
constexpr int kAcknowledgedShift = 10;
constexpr int kAckShift = 9;
constexpr int kCreditChannelShift = 5;

}  // namespace

uint64_t EncodeFrameHeader(const FrameHeader& header) {
  return uint64_t{header.virtual_channel} << kVirtualChannelShift |
         static_cast<uint64_t>(header.type) << kTypeShift |
         uint64_t{header.sequence.wire()} << kSequenceShift |
         uint64_t{header.acknowledged.wire()} << kAcknowledgedShift |
         (header.ack ? uint64_t{1} << kAckShift : 0) |
         uint64_t{header.credit_channel} << kCreditChannelShift | header.credit_exponent;
}

FrameHeader DecodeFrameHeader(uint64_t word) {
  FrameHeader header;
  header.virtual_channel = static_cast<uint8_t>(word >> kVirtualChannelShift);
  header.type = static_cast<FrameType>(word >> kTypeShift & 15);
  header.sequence = SequenceNumber::FromWire(word >> kSequenceShift);
  header.acknowledged = SequenceNumber::FromWire(word >> kAcknowledgedShift);
  header.ack = (word >> kAckShift & 1) != 0;
  header.credit_channel = word >> kCreditChannelShift & 7;
  header.credit_exponent = word & 31;
  return header;
}

}  // namespace oxmem::tloe
