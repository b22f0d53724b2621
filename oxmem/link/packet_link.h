#ifndef OXMEM_LINK_PACKET_LINK_H_
#define OXMEM_LINK_PACKET_LINK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "oxmem/link/link.h"
#include "oxmem/link/mac_address.h"

namespace oxmem::link {

// The specification leaves the EtherType open; every known endpoint uses this one.
constexpr uint16_t kDefaultEtherType = 0xaaaa;

// The smallest frame is a TLoE header, five flits and the mask; an MTU below that carries nothing.
constexpr std::size_t kSmallestMaxFrameBytes = 56;

// How frames come in. docs/adr/0003-packet-io.md has the measurements behind the choice.
enum class PacketReceive : uint8_t {
  kAuto,   // the ring if the longest frame has kRingFrameBytes or more, else batches
  kBatch,  // recvmmsg: the receiver copies, in system calls
  kRing,   // PACKET_RX_RING: the side that delivers copies, and looking for frames costs no call;
           // every frame, however short, takes a slot for the longest
};

constexpr std::size_t kRingFrameBytes = 4096;

struct PacketLinkOptions {
  std::string interface;
  uint16_t ether_type = kDefaultEtherType;

  // The address this end answers to and sends from; the interface's own if not given. The
  // interface is told to take frames for it. With another than the interface's own, frames of
  // VLANs that the interface carries and nobody here has are taken for untagged ones.
  std::optional<MacAddress> mac;

  // Of TLoE header to mask; 0 is the interface's MTU, and more than that is refused.
  std::size_t max_frame_bytes = 0;

  // What a requester with one connection wants to see: frames of this peer, on this virtual
  // channel (0-7). Others are left to other sockets by the kernel and wake nobody here.
  std::optional<MacAddress> peer;
  std::optional<uint8_t> virtual_channel;

  PacketReceive receive = PacketReceive::kAuto;
  // Memory of the ring, shared with the kernel and resident; room for 128 frames at least.
  std::size_t ring_bytes = std::size_t{1} << 20;

  // Refuse to open beside another exclusive link of this host that would take the same frames
  // there: two nodes on one MAC, two requesters on one connection. Its process is named.
  bool exclusive = true;
};

// Frames on Ethernet through an AF_PACKET socket. Only frames of the
// EtherType, addressed to this end, come in. Needs CAP_NET_RAW. The socket belongs to the network
// namespace of the thread that opens it.
//
// Addresses are MAC addresses; see mac_address.h.
//
// An interface that goes down makes Send fail until it is up again; one that was removed and
// created anew with the same name is found by the next Send. A side that only receives calls
// Receive once in a while (a second is fine) as long as health() is not OK, which finds it too.
// A frame longer than max_frame_bytes() is not sent, and Send says so.
absl::StatusOr<std::unique_ptr<Link>> OpenPacketLink(const PacketLinkOptions& options);

}  // namespace oxmem::link

#endif  // OXMEM_LINK_PACKET_LINK_H_
