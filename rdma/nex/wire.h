#ifndef RDMA_NEX_WIRE_H_
#define RDMA_NEX_WIRE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "rdma/nex/host_identity.h"

namespace oxmem::nex {

// The wire format of docs/nex-wire.md: greeting frames once, then frames of one fixed header and
// an optional payload, all numbers big endian. Decoding refuses everything it does not know.

inline constexpr std::size_t kHeaderBytes = 48;
inline constexpr std::size_t kGreetingBytes = 64;
inline constexpr std::size_t kDatagramHeaderBytes = 64;
inline constexpr std::uint16_t kWireVersion = 2;
inline constexpr std::uint32_t kMaxMessageBytes = 1u << 30;

enum class FrameType : std::uint8_t {
  // From requester to responder.
  kSend = 1,
  kSendImmediate = 2,
  kSendInvalidate = 3,
  kWrite = 4,
  kWriteImmediate = 5,
  kRead = 6,
  kCompareSwap = 7,
  kFetchAdd = 8,
  // From responder to requester.
  kAck = 32,
  kNak = 33,
  kReceiverNotReady = 34,
  kReceiverReady = 35,
  kReadResponse = 36,
  kAtomicResponse = 37,
  kCredits = 38,  // answers nothing
};

bool IsRequest(FrameType type);

// Why a responder refused a request, in the numbers of InfiniBand's NAK codes (9.7.5.2.8).
enum class NakCode : std::uint16_t {
  kInvalidRequest = 1,
  kRemoteAccess = 2,
  kRemoteOperation = 3,
};

inline constexpr std::uint8_t kFlagSolicited = 1;

struct FrameHeader {
  FrameType type = FrameType::kSend;
  std::uint8_t flags = 0;
  std::uint16_t detail = 0;     // NakCode, or the encoded RNR timer
  std::uint32_t sequence = 0;   // message number of the request this is or answers
  std::uint32_t length = 0;     // payload bytes; for kRead the bytes asked for
  std::uint32_t immediate = 0;  // immediate data, or the key to invalidate
  std::uint32_t key = 0;        // of the remote memory; in most answers the credit limit
  std::uint32_t srq_number = 0;
  std::uint64_t address = 0;
  std::uint64_t operand = 0;  // compare or add; for kAtomicResponse the value found
  std::uint64_t swap = 0;

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

// Bytes that follow the header on the stream.
std::uint32_t PayloadBytes(const FrameHeader& header);

void EncodeHeader(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out);
std::optional<FrameHeader> DecodeHeader(std::span<const std::byte, kHeaderBytes> in);

// The three frames that open a connection: the connecting side greets, the accepting side
// welcomes (or refuses), the connecting side confirms.
enum class GreetingType : std::uint8_t { kHello = 1, kWelcome = 2, kConfirm = 3, kRefuse = 4 };

struct Greeting {
  GreetingType type = GreetingType::kHello;
  std::uint32_t source_qpn = 0;
  std::uint32_t destination_qpn = 0;
  std::uint64_t nonce = 0;       // of the sender of this frame
  std::uint64_t peer_nonce = 0;  // the other side's, echoed; 0 in kHello
  std::uint64_t proof = 0;       // keyed hash over both nonces; 0 without a secret
  HostIdentity host;             // of the sender, for a peer on its own host; else all 0

  friend bool operator==(const Greeting&, const Greeting&) = default;
};

void EncodeGreeting(const Greeting& greeting, std::span<std::byte, kGreetingBytes> out);
std::optional<Greeting> DecodeGreeting(std::span<const std::byte, kGreetingBytes> in);

// The header of an unreliable datagram; the payload is the rest of the UDP packet.
struct DatagramHeader {
  std::uint32_t source_qpn = 0;
  std::uint32_t destination_qpn = 0;
  std::uint32_t queue_key = 0;
  std::uint8_t flags = 0;
  bool has_immediate = false;
  bool has_grh = false;
  std::uint32_t immediate = 0;
  std::array<std::uint8_t, 16> source_gid{};
  std::array<std::uint8_t, 16> destination_gid{};

  friend bool operator==(const DatagramHeader&, const DatagramHeader&) = default;
};

void EncodeDatagram(const DatagramHeader& header, std::span<std::byte, kDatagramHeaderBytes> out);
std::optional<DatagramHeader> DecodeDatagram(std::span<const std::byte, kDatagramHeaderBytes> in);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_WIRE_H_
