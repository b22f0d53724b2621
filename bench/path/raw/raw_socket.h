#ifndef BENCH_PATH_RAW_RAW_SOCKET_H_
#define BENCH_PATH_RAW_RAW_SOCKET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "oxmem/link/mac_address.h"

namespace oxmem::bench {

// How frames leave a raw socket and how they come in. With "bypass" they go around the queueing
// discipline of the interface.
enum class SendWay : uint8_t { kBatch, kBatchBypass, kRing, kRingBypass };
enum class ReceiveWay : uint8_t { kBatch, kRingV2, kRingV3 };

std::optional<SendWay> ParseSendWay(std::string_view text);
std::optional<ReceiveWay> ParseReceiveWay(std::string_view text);
const char* NameOf(SendWay way);
const char* NameOf(ReceiveWay way);

// The EtherType of the ceilings: one of those for local experiments, not TLoE's.
constexpr uint16_t kRawEtherType = 0x88b5;

struct RawOptions {
  int interface_index = 0;
  link::MacAddress own;
  link::MacAddress peer;
  std::size_t mtu = 1500;
  std::size_t ring_bytes = std::size_t{4} << 20;
  // Copy every received frame to memory of the receiver's, as whoever wants its contents must.
  bool touch = true;
};

constexpr std::size_t kRawHeaderBytes = 14;
// The Ethernet header of frames to the peer.
std::array<std::byte, kRawHeaderBytes> RawHeader(const RawOptions& options);

// Sends frames from a source buffer about as large as a resend buffer. Lengths include the Ethernet
// header. One thread; the network namespace is that of the opening thread.
class RawSender {
 public:
  virtual ~RawSender() = default;
  // Sends up to `count` frames of this length, at most 64; returns how many the kernel took.
  virtual std::size_t Send(std::size_t count, std::size_t frame_bytes) = 0;
};

class RawReceiver {
 public:
  virtual ~RawReceiver() = default;
  // Takes what has arrived, at most 64 frames; adds their length to `bytes`. Never blocks.
  virtual std::size_t Receive(uint64_t& bytes) = 0;
  virtual int fd() const = 0;
};

absl::StatusOr<std::unique_ptr<RawSender>> OpenSender(SendWay way, const RawOptions& options);
absl::StatusOr<std::unique_ptr<RawReceiver>> OpenReceiver(ReceiveWay way,
                                                          const RawOptions& options);

// A plain blocking socket that receives the EtherType and sends to the interface.
absl::StatusOr<int> OpenPlainSocket(const RawOptions& options);

}  // namespace oxmem::bench

#endif  // BENCH_PATH_RAW_RAW_SOCKET_H_
