#ifndef RDMA_NEX_CM_MESSAGE_H_
#define RDMA_NEX_CM_MESSAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "rdma/nex/keyed_hash.h"

namespace oxmem::nex {

// What two connection managers say to each other, over one TCP connection for each identifier
// (docs/nex-wire.md). All messages have the same size.
inline constexpr std::uint16_t kCmVersion = 3;
inline constexpr std::size_t kCmMessageBytes = 336;
inline constexpr std::size_t kCmPrivateBytes = 256;

enum class CmMessageType : std::uint8_t {
  kRequest = 1,
  kReply = 2,
  kReadyToUse = 3,
  kReject = 4,
  kDisconnect = 5,
};

// What kind of queue pairs is connected.
enum class CmService : std::uint8_t { kReliable = 0, kDatagram = 1, kUnreliable = 2, kXrc = 3 };

struct CmMessage {
  CmMessageType type = CmMessageType::kRequest;
  CmService service = CmService::kReliable;
  std::uint32_t qpn = 0;
  std::uint32_t queue_key = 0;
  std::uint8_t srq = 0;
  std::uint8_t responder_resources = 0;
  std::uint8_t initiator_depth = 0;
  std::uint8_t flow_control = 0;
  std::uint8_t retry_count = 0;
  std::uint8_t rnr_retry_count = 0;
  std::uint8_t private_length = 0;
  std::array<std::uint8_t, 16> source{};
  std::array<std::uint8_t, 16> destination{};
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  std::uint64_t ticket = 0;  // of a request (lookup.h)
  std::array<std::uint8_t, kCmPrivateBytes> private_data{};
  std::uint64_t proof = 0;  // ProofOf this message; 0 without a secret

  friend bool operator==(const CmMessage&, const CmMessage&) = default;
};

// So much private data fits into a message of a device, behind the 36 bytes that the kernel's
// connection manager puts before that of a request in the TCP and UDP port spaces.
std::size_t MaxPrivateBytes(CmMessageType type, CmService service);
inline constexpr std::size_t kCmAddressBytes = 36;
inline constexpr std::uint8_t kCmMaxRetries = 7;

void EncodeCm(const CmMessage& message, std::span<std::byte, kCmMessageBytes> out);
std::optional<CmMessage> DecodeCm(std::span<const std::byte, kCmMessageBytes> in);

// That a message is from one who knows the secret, and of the conversation whose request had the
// ticket.
std::uint64_t ProofOf(const CmMessage& message, std::uint64_t ticket, const SecretKey& key);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_CM_MESSAGE_H_
