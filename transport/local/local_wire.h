#ifndef TRANSPORT_LOCAL_LOCAL_WIRE_H_
#define TRANSPORT_LOCAL_LOCAL_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace oxmem::transport {

// The messages between a node and its clients on one host, one packet of a SOCK_SEQPACKET socket
// each. docs/local-handshake.md has the layout. Pure: bytes in, values out.

inline constexpr uint16_t kLocalVersion = 1;  // the only one so far
inline constexpr std::size_t kMaxLocalMessageBytes = 2048;
inline constexpr std::size_t kMaxLocalTextBytes = 1024;

// Client to node, first: what it speaks and which region it wants.
struct LocalHello {
  uint16_t lowest_version = kLocalVersion;
  uint16_t highest_version = kLocalVersion;
  bool read_only = false;  // it will not write
  std::string region;      // empty: the only one
  friend bool operator==(const LocalHello&, const LocalHello&) = default;
};

// Node to client, in answer; with the memory's descriptor if error is 0.
struct LocalOffer {
  uint16_t version = kLocalVersion;
  uint16_t error = 0;  // an errno
  bool read_only = false;
  bool persistent = false;
  uint64_t size_bytes = 0;
  uint64_t offset = 0;  // of the region in the file behind the descriptor
  std::string text;     // the region's name, or what is wrong
  friend bool operator==(const LocalOffer&, const LocalOffer&) = default;
};

// Client to node: make everything written so far durable.
struct LocalFlush {
  uint64_t id = 0;
  friend bool operator==(const LocalFlush&, const LocalFlush&) = default;
};

// Node to client: done.
struct LocalFlushed {
  uint64_t id = 0;
  uint16_t error = 0;  // an errno
  friend bool operator==(const LocalFlushed&, const LocalFlushed&) = default;
};

using LocalMessage = std::variant<LocalHello, LocalOffer, LocalFlush, LocalFlushed>;

// Texts longer than kMaxLocalTextBytes are cut.
std::vector<std::byte> EncodeLocalMessage(const LocalMessage& message);

// Nothing if the packet is not exactly one well-formed message.
std::optional<LocalMessage> DecodeLocalMessage(std::span<const std::byte> packet);

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_LOCAL_WIRE_H_
