#include "oxmem/channel/split.h"

#include "oxmem/tilelink/message.h"

namespace oxmem::channel {
namespace {

// A request is sent in filled frames from so many on: they save at least one frame in eight, and
// the rest of the range may take one or two more than it would otherwise.
constexpr uint64_t kFewestFrames = 16;

std::size_t FlitsOfData(uint8_t size) {
  return std::max<std::size_t>((std::size_t{1} << size) / tilelink::kFlitBytes, 1);
}

// Ranges are nearly always short enough for the short division, which is several times faster.
struct Quotient {
  uint64_t whole;
  uint64_t rest;
};
Quotient Divide(uint64_t value, uint64_t by) {
  if (value >> 32 != 0 || by >> 32 != 0) return {value / by, value % by};
  const auto short_value = static_cast<uint32_t>(value);
  const auto short_by = static_cast<uint32_t>(by);
  return {short_value / short_by, short_value % short_by};
}

}  // namespace

FrameFill FillFor(std::size_t frame_flits, std::size_t overhead_flits, uint8_t largest,
                  std::size_t starts) {
  FrameFill fill;
  fill.large = largest;
  const std::size_t large_flits = overhead_flits + FlitsOfData(largest);
  if (large_flits >= frame_flits || starts < 2) return fill;
  std::size_t room = std::min(frame_flits - large_flits, starts - 1);
  for (uint8_t size = largest; size-- > 3 && fill.small_count < fill.small.size();) {
    const std::size_t flits = overhead_flits + FlitsOfData(size);
    if (flits > room) continue;
    room -= flits;
    fill.small[fill.small_count++] = size;
  }
  // Every message costs both ends some time.
  if (fill.bytes() - (uint64_t{1} << largest) < (uint64_t{1} << largest) / 8) fill.small_count = 0;
  return fill;
}

Piece NextPiece(uint64_t address, uint64_t length, uint64_t sent, uint8_t largest,
                const FrameFill& fill) {
  const uint64_t large = uint64_t{1} << fill.large;
  const uint64_t frame = fill.bytes();
  const uint64_t lead = (large - (address & (large - 1))) & (large - 1);
  const bool filled =
      fill.small_count != 0 && lead < length && length - lead >= kFewestFrames * frame;
  if (filled && sent < lead) return {sent, NextMessageSize(address + sent, lead - sent, largest)};
  const uint64_t frames = filled ? Divide(length - lead, frame).whole : 0;
  if (sent - (filled ? lead : 0) >= frames * frame) {
    return {sent, NextMessageSize(address + sent, length - sent, largest)};
  }
  const auto [number, rest] = Divide(sent - lead, frame);
  uint64_t within = rest;
  uint64_t part = lead + frames * large;  // of the small messages of one size
  for (std::size_t i = 0; i < fill.small_count; ++i) {
    const uint64_t bytes = uint64_t{1} << fill.small[i];
    if (within == 0) return {part + number * bytes, fill.small[i]};
    within -= bytes;
    part += frames * bytes;
  }
  return {lead + number * large, fill.large};
}

}  // namespace oxmem::channel
