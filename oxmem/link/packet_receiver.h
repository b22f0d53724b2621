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

// The receiving half of a packet link. The socket and the statistics belong to the link and outlive
// this.
class PacketReceiver {
 public:
  virtual ~PacketReceiver() = default;
  PacketReceiver(const PacketReceiver&) = delete;
  PacketReceiver& operator=(const PacketReceiver&) = delete;

  // As Link::Receive.
  virtual std::size_t Receive(std::span<IncomingFrame> frames) = 0;

 protected:
  PacketReceiver(PacketSocket& socket, LinkStats& stats) : socket_(socket), stats_(stats) {}

  // Whether frames can come: false while the interface is known to be broken. Looks for it again
  // once in a while.
  bool Usable();
  // A frame is read from both its ends: the mask lies in its last word, and would be waited for.
  static void PrefetchEnd(const IncomingFrame& frame) {
    __builtin_prefetch(frame.bytes.data() + frame.bytes.size() - 1);
  }
  // Tells of an error the kernel gave for the socket.
  void OnError(int error);

  PacketSocket& socket_;
  LinkStats& stats_;

 private:
  bool broken_ = false;  // the kernel said so, and nothing has healed it yet
  Instant next_heal_;
};

// One recvmmsg for a batch of frames, into buffers of its own.
class BatchReceiver final : public PacketReceiver {
 public:
  BatchReceiver(PacketSocket& socket, LinkStats& stats);
  std::size_t Receive(std::span<IncomingFrame> frames) override;

 private:
  std::size_t Deliver(std::size_t count, std::span<IncomingFrame> frames);
  void CountDrops(std::size_t received, std::size_t asked);

  std::unique_ptr<std::byte[]> buffer_;
  std::vector<iovec> vectors_;
  std::vector<mmsghdr> messages_;
  std::size_t received_since_empty_ = 0;
};

}  // namespace oxmem::link

#endif  // OXMEM_LINK_PACKET_RECEIVER_H_
