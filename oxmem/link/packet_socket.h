#ifndef OXMEM_LINK_PACKET_SOCKET_H_
#define OXMEM_LINK_PACKET_SOCKET_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "oxmem/link/interface.h"
#include "oxmem/link/mac_address.h"
#include "oxmem/link/packet_link.h"
#include "transport/base/unique_fd.h"

namespace oxmem::link {

constexpr std::size_t kEthernetHeaderBytes = 14;

// The AF_PACKET socket under a packet link: filter, binding, and finding its interface again. It
// moves no frames. Used by one thread.
class PacketSocket {
 public:
  // An error names the interface and what to try. Frames come in after Bind.
  static absl::StatusOr<PacketSocket> Open(const PacketLinkOptions& options);

  // Lets in the frames of the interface that has the name now.
  absl::Status Bind();

  int fd() const { return fd_.get(); }
  const InterfaceInfo& interface() const { return interface_; }
  const MacAddress& mac() const { return mac_; }
  std::size_t max_frame_bytes() const { return max_frame_bytes_; }
  // The Ethernet header of an outgoing frame, the destination still zero.
  std::array<std::byte, kEthernetHeaderBytes> HeaderTemplate() const;

  // OK, or what is wrong with the interface now.
  absl::Status Health() const;

  // After an error: binds to the interface that has the name now. OK if frames can flow again.
  absl::Status Heal();

  // That a frame of this length was not sent, and why.
  absl::Status FrameTooLong(std::size_t frame_bytes) const;

  // Frames the kernel dropped since the last call because they were not taken in time.
  uint32_t TakeReceiveDrops();

 private:
  PacketSocket() = default;
  absl::Status Configure(const PacketLinkOptions& options);
  absl::Status Claim(const PacketLinkOptions& options);
  absl::Status AttachFilter();
  absl::Status CheckInterface(const InterfaceInfo& now) const;

  UniqueFd fd_;
  UniqueFd claim_;
  InterfaceInfo interface_;
  MacAddress mac_;  // ours, from the opening on; the interface's own may be another
  uint16_t ether_type_ = 0;
  std::optional<MacAddress> peer_;
  std::optional<uint8_t> virtual_channel_;
  std::size_t max_frame_bytes_ = 0;
};

}  // namespace oxmem::link

#endif  // OXMEM_LINK_PACKET_SOCKET_H_
