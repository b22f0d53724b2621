// Any bytes decode to nothing, or to a message that stays within them, whose data can be copied in
// both orders, and which encodes to flits that decode to the same again.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "oxmem/tilelink/codec.h"
#include "transport/base/check.h"

namespace {

using oxmem::tilelink::CopyData;
using oxmem::tilelink::CopyMaskedData;
using oxmem::tilelink::DataBytes;
using oxmem::tilelink::DataOrder;
using oxmem::tilelink::DecodedMessage;
using oxmem::tilelink::DecodeMessage;
using oxmem::tilelink::EncodeMessage;
using oxmem::tilelink::FlitsOf;
using oxmem::tilelink::HasData;
using oxmem::tilelink::HasMask;
using oxmem::tilelink::kFlitBytes;

constexpr std::size_t kLargestData = std::size_t{1} << 15;
constexpr std::size_t kLargestFlits = 2 + kLargestData / 8 + kLargestData / 64;

// Memory of the process, not of the call: the largest message is 36 KiB.
std::array<std::byte, kLargestData> data;
std::array<std::byte, kLargestData> again;
std::array<std::byte, kLargestFlits * kFlitBytes> wire;

void CheckRoundTrip(const DecodedMessage& decoded, DataOrder order) {
  const std::span<std::byte> copied(data.data(), DataBytes(decoded.message));
  std::vector<uint64_t> mask;
  if (!copied.empty()) CopyData(decoded.message, decoded.payload, order, copied);
  if (HasMask(decoded.message)) {
    // The mask, seen through what it lets pass.
    std::memset(again.data(), 0, copied.size());
    CopyMaskedData(decoded.message, decoded.payload, order, std::span(again).first(copied.size()));
    for (std::size_t i = 0; i < copied.size(); ++i)
      OXMEM_CHECK(again[i] == copied[i] || again[i] == std::byte{0});
    mask.assign((copied.size() + 63) / 64, ~uint64_t{0});
  }
  const std::size_t flits = EncodeMessage(decoded.message, {copied, mask}, order, wire);
  OXMEM_CHECK(flits == decoded.flit_count);
  const auto encoded = std::span<const std::byte>(wire).first(flits * kFlitBytes);
  const auto second = DecodeMessage(encoded);
  OXMEM_CHECK(second && second->message == decoded.message);
  if (copied.empty()) return;
  CopyData(second->message, second->payload, order, std::span(again).first(copied.size()));
  OXMEM_CHECK(std::memcmp(again.data(), copied.data(), copied.size()) == 0);
  OXMEM_CHECK(!DecodeMessage(encoded.first(encoded.size() - 1)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, std::size_t size) {
  const auto flits = std::as_bytes(std::span(bytes, size));
  const auto decoded = DecodeMessage(flits);
  if (!decoded) return 0;
  OXMEM_CHECK(decoded->flit_count == FlitsOf(decoded->message));
  OXMEM_CHECK(decoded->flit_count * kFlitBytes <= size);
  OXMEM_CHECK(HasData(decoded->message) == !decoded->payload.flits.empty());
  CheckRoundTrip(*decoded, DataOrder::kSpec);
  CheckRoundTrip(*decoded, DataOrder::kMemory);
  return 0;
}
