#include "oxmem/tloe/frame.h"

#include <bit>
#include <cstring>

#include "transport/base/byte_order.h"
#include "transport/base/check.h"

namespace oxmem::tloe {

using tilelink::kFlitBytes;

std::optional<ParsedFrame> ParseFrame(std::span<const std::byte> frame) {
  if (frame.size() < kFrameOverheadBytes || frame.size() % kFlitBytes != 0) return std::nullopt;
  ParsedFrame parsed;
  parsed.header = DecodeFrameHeader(LoadBigEndian<uint64_t>(frame.data()));
  parsed.flits = frame.subspan(kFlitBytes, frame.size() - kFrameOverheadBytes);
  parsed.mask = LoadBigEndian<uint64_t>(frame.data() + frame.size() - kFlitBytes);
  const std::size_t flits = parsed.flits.size() / kFlitBytes;
  if (flits < 64 && parsed.mask >> flits != 0) return std::nullopt;
  return parsed;
}

MessageCount DecodeMessages(const ParsedFrame& frame, MessageArray* messages) {
  MessageCount count;
  for (uint64_t rest = frame.mask; rest != 0;) {
    const auto start = static_cast<std::size_t>(std::countr_zero(rest));
    rest &= rest - 1;
    // The last message may run to the end of the frame, the others to the next start.
    const std::size_t end = rest != 0 ? static_cast<std::size_t>(std::countr_zero(rest))
                                      : frame.flits.size() / kFlitBytes;
    const auto flits = frame.flits.subspan(start * kFlitBytes, (end - start) * kFlitBytes);
    tilelink::DecodedMessage& message = (*messages)[count.messages];
    if (tilelink::DecodeMessage(flits, &message)) {
      ++count.messages;
    } else if (const auto malformed = tilelink::DecodeMalformed(flits)) {
      message = *malformed;
      ++count.messages;
      ++count.malformed;
    } else {
      ++count.unreadable;
    }
  }
  return count;
}

void WriteEmptyFrame(const FrameHeader& header, std::span<std::byte> to) {
  OXMEM_CHECK(to.size() >= kMinFrameBytes);
  std::memset(to.data(), 0, kMinFrameBytes);
  StoreBigEndian(to.data(), EncodeFrameHeader(header));
}

std::span<std::byte> FrameBuilder::Append(std::size_t flits) {
  OXMEM_CHECK(Fits(flits));
  mask_ |= uint64_t{1} << flits_;
  const auto room = buffer_.subspan((1 + flits_) * kFlitBytes, flits * kFlitBytes);
  flits_ += flits;
  return room;
}

std::size_t FrameBuilder::Finish() {
  const std::size_t padded = std::max(flits_, kMinFlits);
  std::byte* end = buffer_.data() + (1 + flits_) * kFlitBytes;
  std::memset(end, 0, (padded - flits_) * kFlitBytes);
  StoreBigEndian(buffer_.data() + (1 + padded) * kFlitBytes, mask_);
  return kFrameOverheadBytes + padded * kFlitBytes;
}

}  // namespace oxmem::tloe
