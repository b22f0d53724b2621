#ifndef OXMEM_LINK_UDP_LINK_H_
#define OXMEM_LINK_UDP_LINK_H_

#include <cstddef>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "oxmem/link/link.h"
#include "oxmem/link/udp_address.h"

namespace oxmem::link {

struct UdpLinkOptions {
  // A node binds to `local` and answers whoever asks; a requester names its one `peer`, and frames
  // of others do not reach it. At least one of the two.
  std::optional<Address> local;
  std::optional<Address> peer;

  // Of TLoE header to mask of the frames that are sent; 0 is what fits the network's packets.
  // Longer ones are cut into IP fragments, which works, slowly, and is lost whole with any of them.
  std::size_t max_frame_bytes = 0;

  // Routers that a frame may have crossed, 0 to 255.
  int hops = 0;
};

// TLoE frames as UDP payload, header to mask, for hosts without raw sockets. IPv4 and IPv6.
// Addresses are those of udp_address.h.
//
// Trust. TLoE has no secret: who can send frames can read and write. On Ethernet that is whoever
// sits on the same network; UDP could be reached, and a sender's address forged, from anywhere, and
// a small request makes a node send a large answer to the forged address. Therefore frames leave
// with the largest hop count and, unless `hops` says otherwise, come in only if no router has
// lowered it (RFC 5082): nobody off the network can reach the node or use it against others, and
// those on it can do what they could do on Ethernet. Through address translation or a tunnel of an
// unprivileged container `hops` must be raised; do that on networks that are trusted as a whole.
// ICMP is believed only as far as to say in health() that nobody listens at the peer.
//
// Bind to the address the peers use on a host that has several in one network: the answers to a
// link bound to every address leave from the one the route prefers.
absl::StatusOr<std::unique_ptr<Link>> OpenUdpLink(const UdpLinkOptions& options);

}  // namespace oxmem::link

#endif  // OXMEM_LINK_UDP_LINK_H_
