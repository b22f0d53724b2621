// Any packet is one message or none; a message encodes to a packet that gives it back.

#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/base/check.h"
#include "transport/local/local_wire.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using oxmem::transport::DecodeLocalMessage;
  const auto packet = std::as_bytes(std::span(data, size));
  const auto message = DecodeLocalMessage(packet);
  if (!message) return 0;
  const auto encoded = oxmem::transport::EncodeLocalMessage(*message);
  OXMEM_CHECK(encoded.size() == size);
  const auto again = DecodeLocalMessage(encoded);
  OXMEM_CHECK(again.has_value());
  OXMEM_CHECK(*again == *message);
  return 0;
}
