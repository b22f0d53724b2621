#ifndef OXMEM_TLOE_FRAME_H_
#define OXMEM_TLOE_FRAME_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "oxmem/tilelink/codec.h"
#include "oxmem/tloe/frame_header.h"

// A frame without its Ethernet header: the TLoE header word, flits of messages and padding, the
// mask word (section 3).

namespace oxmem::tloe {

inline constexpr std::size_t kMaxMessagesPerFrame = 64;
inline constexpr std::size_t kFrameOverheadBytes = 16;  // header and mask
// The specification asks for 46 bytes, which 4 flits satisfy; every software endpoint sends 5, and
// hardware takes padding anywhere.
inline constexpr std::size_t kMinFlits = 5;
inline constexpr std::size_t kMinFrameBytes =
    kFrameOverheadBytes + kMinFlits * tilelink::kFlitBytes;

struct ParsedFrame {
  FrameHeader header;
  std::span<const std::byte> flits;  // between header and mask
  uint64_t mask = 0;                 // bit i: a message starts at flit i
};

// Nothing if the length is not a whole number of words, too short, or the mask names flits that are
// not there. The messages are not looked at.
std::optional<ParsedFrame> ParseFrame(std::span<const std::byte> frame);

using MessageArray = std::array<tilelink::DecodedMessage, kMaxMessagesPerFrame>;
struct MessageCount {
  std::size_t messages = 0;   // decoded, malformed ones included
  std::size_t malformed = 0;  // of them
  // Starts at which there is not even a header. Nothing can be answered to them, and they are not
  // among the messages.
  std::size_t unreadable = 0;

  bool all_well_formed() const { return malformed == 0 && unreadable == 0; }
};
// Decodes the messages the mask names. One that does not exist or runs into the next is malformed.
// Flits outside of messages are padding and not looked at (section 3.3).
MessageCount DecodeMessages(const ParsedFrame& frame, MessageArray* messages);

// Writes a frame without messages: kMinFrameBytes of them.
void WriteEmptyFrame(const FrameHeader& header, std::span<std::byte> to);

// Puts messages one behind the other into a buffer and closes it into a frame.
//
//   Begin ── Append* ── Finish
class FrameBuilder {
 public:
  // `buffer` gets the frame and bounds it; a message starts at `max_start` (1-64) flits at most,
  // counted from 1, and message flits are `max_flits` at most.
  void Begin(std::span<std::byte> buffer, int max_start, std::size_t max_flits) {
    buffer_ = buffer;
    flits_ = 0;
    mask_ = 0;
    max_start_ = static_cast<std::size_t>(max_start);
    limit_ = std::min(max_flits, (buffer.size() - kFrameOverheadBytes) / tilelink::kFlitBytes);
  }

  bool Fits(std::size_t flits) const { return flits_ < max_start_ && flits_ + flits <= limit_; }
  // Where to write the next message of `flits` flits, which must fit.
  std::span<std::byte> Append(std::size_t flits);
  // Pads and writes the mask, leaving the header word free, and returns the frame's length.
  std::size_t Finish();

  // What Finish would return.
  std::size_t length() const {
    return kFrameOverheadBytes + std::max(flits_, kMinFlits) * tilelink::kFlitBytes;
  }
  bool empty() const { return mask_ == 0; }

 private:
  std::span<std::byte> buffer_;
  std::size_t flits_ = 0;
  uint64_t mask_ = 0;
  std::size_t max_start_ = 0;
  std::size_t limit_ = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_FRAME_H_
