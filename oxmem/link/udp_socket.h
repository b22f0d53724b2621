#ifndef OXMEM_LINK_UDP_SOCKET_H_
#define OXMEM_LINK_UDP_SOCKET_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"
#include "oxmem/link/link.h"
#include "oxmem/link/udp_link.h"
#include "transport/base/unique_fd.h"

namespace oxmem::link {

// What one UDP packet can carry over IPv4; over IPv6 it is a little more.
constexpr std::size_t kLargestUdpPayload = 65507;

// The socket under a UDP link, bound or connected, with its filter and buffers; moves no frames.
struct UdpSocket {
  UniqueFd fd;
  UniqueFd probe;  // to ask for routes with, in the same network namespace
  int family = 0;
  Address local;
};

absl::StatusOr<UdpSocket> OpenUdpSocket(const UdpLinkOptions& options);

// The payload that fits one packet on the way to the peer; an error if there is no way.
absl::StatusOr<std::size_t> UdpPayloadTo(const UdpSocket& socket, const Address& peer);

// Packets the kernel dropped because they were not taken in time, or refused, since the opening.
uint32_t UdpDrops(int fd);

}  // namespace oxmem::link

#endif  // OXMEM_LINK_UDP_SOCKET_H_
