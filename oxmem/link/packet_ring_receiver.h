#ifndef OXMEM_LINK_PACKET_RING_RECEIVER_H_
#define OXMEM_LINK_PACKET_RING_RECEIVER_H_

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "oxmem/link/packet_receiver.h"

namespace oxmem::link {

// A ring of frame slots shared with the kernel (PACKET_RX_RING, TPACKET_V2), which fills them in
// the context of whatever delivers the frame. A slot goes back to the kernel with the Receive after
// the one that handed it out.
//
// Version 2, not 3: version 3 hands over blocks of many frames, and a block that is not full only
// after a millisecond, which no request with an answer can wait for.
class PacketRingReceiver final : public PacketReceiver {
 public:
  // The socket must not be bound yet.
  static absl::StatusOr<std::unique_ptr<PacketRingReceiver>> Make(PacketSocket& socket,
                                                                  LinkStats& stats,
                                                                  std::size_t ring_bytes);
  ~PacketRingReceiver() override;

  std::size_t Receive(std::span<IncomingFrame> frames) override;

 private:
  PacketRingReceiver(PacketSocket& socket, LinkStats& stats) : PacketReceiver(socket, stats) {}

  std::size_t Next(std::size_t index) const { return index + 1 == slots_.size() ? 0 : index + 1; }
  void Release();
  void OnEmpty(std::size_t received);
  void CheckSocket();

  std::byte* ring_ = nullptr;
  std::size_t ring_bytes_ = 0;
  std::vector<std::byte*> slots_;
  std::size_t first_ = 0;  // handed out by the last Receive: from here
  std::size_t next_ = 0;   // to here, where the kernel's next frame will be
  std::size_t received_since_empty_ = 0;
  unsigned empty_receives_ = 0;
};

}  // namespace oxmem::link

#endif  // OXMEM_LINK_PACKET_RING_RECEIVER_H_
