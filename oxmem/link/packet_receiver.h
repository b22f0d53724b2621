#ifndef OXMEM_LINK_PACKET_RECEIVER_H_
#define OXMEM_LINK_PACKET_RECEIVER_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "oxmem/link/link.h"
#include "oxmem/link/packet_socket.h"
#include "transport/base/clock.h"

namespace oxmem::link {

// The receiving half of a packet link: one recvmmsg for a batch of frames, into buffers of its own.
// The socket and the statistics belong to the link and outlive this.
class PacketReceiver {
 public:
  PacketReceiver(PacketSocket& socket, LinkStats& stats);
  PacketReceiver(const PacketReceiver&) = delete;
  PacketReceiver& operator=(const PacketReceiver&) = delete;

  // As Link::Receive.
  std::size_t Receive(std::span<IncomingFrame> frames);

 private:
  std::size_t Deliver(std::size_t count, std::span<IncomingFrame> frames);
  void OnError(int error);
  void CountDrops(std::size_t received, std::size_t asked);

  PacketSocket& socket_;
  LinkStats& stats_;
  std::unique_ptr<std::byte[]> buffer_;
  std::vector<iovec> vectors_;
  std::vector<mmsghdr> messages_;
  std::size_t received_since_empty_ = 0;
  bool broken_ = false;  // the kernel said so, and nothing has healed it yet
  Instant next_heal_;
};

}  // namespace oxmem::link

#endif  // OXMEM_LINK_PACKET_RECEIVER_H_
