#ifndef OXMEM_TILELINK_CODEC_H_
#define OXMEM_TILELINK_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "oxmem/tilelink/message.h"

namespace oxmem::tilelink {

// Where the byte with the lowest address travels. Chosen by the endpoint, see docs/wire-format.md.
enum class DataOrder : uint8_t {
  kSpec,    // in bits 7-0 of its flit, so last of every eight
  kMemory,  // first of every eight: memory as it lies
};

// The data of a message as it lies in a frame: whole flits, masks interleaved, in wire order.
// Points into the frame and lives as long as that does.
struct WirePayload {
  std::span<const std::byte> flits;
};

struct DecodedMessage {
  Message message;
  WirePayload payload;         // empty unless HasData
  std::size_t flit_count = 0;  // whole message
  // Only the header flit could be read: the opcode does not exist on its channel, or the message
  // is not all there. Without address, sink and payload; flit_count is 1.
  bool malformed = false;
};

// Data of less than 8 bytes lies, with kSpec, in the byte lanes of its flit that the low three bits
// of the address name, and with kMemory at the front of the flit. Channel D carries no address:
// whoever encodes AccessAckData or GrantData sets Message::address to that of the request, and
// whoever copies the data of a decoded one does the same first. From 8 bytes on the address does
// not matter.

// Decodes the message that starts at the front of `flits`. Nothing if the channel or opcode is
// unknown or the message runs past the end. Reserved bits are ignored.
std::optional<DecodedMessage> DecodeMessage(std::span<const std::byte> flits);
// The same in place, false for nothing: `to` is undefined then.
bool DecodeMessage(std::span<const std::byte> flits, DecodedMessage* to);

// The header flit of a message that cannot be decoded, as a malformed message. Nothing if not even
// the channel exists.
std::optional<DecodedMessage> DecodeMalformed(std::span<const std::byte> flits);

// What a message to be encoded carries besides its fields: DataBytes(message) bytes in memory
// order, and for PutPartialData one bit a byte, bit i of mask[i / 64] for byte i. Unused ones are
// empty.
struct MemoryPayload {
  std::span<const std::byte> data;
  std::span<const uint64_t> mask;
};

// Writes FlitsOf(message) flits to the front of `to` and returns their number. Checked: the opcode
// is known, size is at most 15, source and sink fit their 26 bits, the payload has the length the
// message says and `to` has room.
std::size_t EncodeMessage(const Message& message, const MemoryPayload& payload, DataOrder order,
                          std::span<std::byte> to);

// Sets the denied and corrupt bits of a message that is encoded already.
void SpoilMessage(std::span<std::byte> flits);

// Copies the data of a received message to `to`, DataBytes(message) long, in memory order.
void CopyData(const Message& message, const WirePayload& payload, DataOrder order,
              std::span<std::byte> to);

// Copies only the bytes whose mask bit is set; the others of `to` stay. For PutPartialData.
void CopyMaskedData(const Message& message, const WirePayload& payload, DataOrder order,
                    std::span<std::byte> to);

}  // namespace oxmem::tilelink

#endif  // OXMEM_TILELINK_CODEC_H_
