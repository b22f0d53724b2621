#ifndef OXMEM_TLOE_FRAME_HEADER_H_
#define OXMEM_TLOE_FRAME_HEADER_H_

#include <cstdint>

#include "oxmem/tloe/sequence_number.h"

namespace oxmem::tloe {

// The number on the wire, a field of the 1.1 proposal; 1.0.3 has zeros there.
enum class FrameType : uint8_t { kNormal = 0, kAckOnly = 1, kOpen = 2, kClose = 3 };

// The first word of a frame (section 3.1).
struct FrameHeader {
  uint8_t virtual_channel = 0;  // 0-7
  FrameType type = FrameType::kNormal;
  SequenceNumber sequence;
  SequenceNumber acknowledged;
  bool ack = true;             // false: NAK, resend what follows `acknowledged`
  uint8_t credit_channel = 0;  // 1-5 for A-E; 0: no credits
  uint8_t credit_exponent = 0;

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

uint64_t EncodeFrameHeader(const FrameHeader& header);
// Reserved bits are ignored; the type may be one that has no name.
FrameHeader DecodeFrameHeader(uint64_t word);

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_FRAME_HEADER_H_
