// Any bytes are no frame, or one whose messages lie within it in the order of the mask, none over
// another; packed anew they decode to the same.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "oxmem/tloe/frame.h"
#include "transport/base/byte_order.h"
#include "transport/base/check.h"

namespace {

using oxmem::tilelink::DecodedMessage;
using oxmem::tilelink::kFlitBytes;
using oxmem::tloe::DecodeMessages;
using oxmem::tloe::EncodeFrameHeader;
using oxmem::tloe::FrameBuilder;
using oxmem::tloe::MessageArray;
using oxmem::tloe::MessageCount;
using oxmem::tloe::ParsedFrame;
using oxmem::tloe::ParseFrame;

std::array<std::byte, 128 * 1024> packed;

// The flits of a message as they lie in its frame.
std::span<const std::byte> FlitsIn(const DecodedMessage& message) {
  const std::byte* end = message.payload.flits.data() + message.payload.flits.size();
  const std::size_t bytes = message.flit_count * kFlitBytes;
  return {end - bytes, bytes};
}

void CheckPacking(const ParsedFrame& frame, std::span<const DecodedMessage> messages) {
  FrameBuilder builder;
  builder.Begin(packed, 64, SIZE_MAX);
  for (const DecodedMessage& message : messages) {
    // Without the padding between them messages only move forward.
    OXMEM_CHECK(builder.Fits(message.flit_count));
    const auto from = FlitsIn(message);
    std::memcpy(builder.Append(message.flit_count).data(), from.data(), from.size());
  }
  const std::size_t length = builder.Finish();
  oxmem::StoreBigEndian(packed.data(), EncodeFrameHeader(frame.header));
  const auto again = ParseFrame(std::span<const std::byte>(packed).first(length));
  OXMEM_CHECK(again && again->header == frame.header);
  MessageArray decoded;
  const MessageCount count = DecodeMessages(*again, &decoded);
  OXMEM_CHECK(count.all_well_formed() && count.messages == messages.size());
  for (std::size_t i = 0; i < count.messages; ++i)
    OXMEM_CHECK(decoded[i].message == messages[i].message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto frame = ParseFrame(bytes);
  if (!frame) return 0;
  MessageArray messages;
  const MessageCount count = DecodeMessages(*frame, &messages);
  const std::byte* end = frame->flits.data();
  for (std::size_t i = 0; i < count.messages; ++i) {
    const auto flits = FlitsIn(messages[i]);
    OXMEM_CHECK(flits.data() >= end);
    end = flits.data() + flits.size();
  }
  OXMEM_CHECK(end <= frame->flits.data() + frame->flits.size());
  if (count.all_well_formed()) CheckPacking(*frame, std::span(messages).first(count.messages));
  return 0;
}
