#ifndef OXMEM_LINK_PACKET_SENDER_H_
#define OXMEM_LINK_PACKET_SENDER_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "oxmem/link/link.h"
#include "oxmem/link/packet_socket.h"

namespace oxmem::link {

// The sending half of a packet link: one sendmmsg for a batch of frames. The socket and the
// statistics belong to the link and outlive this.
class PacketSender {
 public:
  PacketSender(PacketSocket& socket, LinkStats& stats);
  PacketSender(const PacketSender&) = delete;
  PacketSender& operator=(const PacketSender&) = delete;

  // As Link::Send.
  absl::Status Send(std::span<const OutgoingFrame> frames);

 private:
  static constexpr std::size_t kBatch = 64;

  absl::Status SendBatch(std::span<const OutgoingFrame> batch);

  PacketSocket& socket_;
  LinkStats& stats_;
  std::array<std::array<std::byte, kEthernetHeaderBytes>, kBatch> headers_;
  std::array<std::array<iovec, 2>, kBatch> vectors_;
  std::array<mmsghdr, kBatch> messages_;
};

}  // namespace oxmem::link

#endif  // OXMEM_LINK_PACKET_SENDER_H_
