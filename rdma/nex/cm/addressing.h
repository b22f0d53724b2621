#ifndef RDMA_NEX_CM_ADDRESSING_H_
#define RDMA_NEX_CM_ADDRESSING_H_

#include <netinet/in.h>

#include <cstdint>

#include "rdma/nex/config.h"

// Which addresses a program of the connection manager means, and from where they are reached.

namespace oxmem::nex {

bool IsV4(const Gid& gid);  // as an IPv4-mapped one

// Whether it is an address of nex0.
bool IsConfigured(const Gid& gid);

// The unspecified addresses, and loopback addresses where nex0 has none: as in the kernel, those
// stand for no device in particular as a source, and for this host as a destination.
bool IsAny(const Gid& gid);

// Where a program's destination is: itself, but for loopback addresses that nex0 has not.
Gid Destination(const Gid& remote);

void SetPort(sockaddr_in6* address, std::uint16_t port);
// In the family that the address has; the port stays.
void SetGid(sockaddr_in6* address, const Gid& gid);

// The local address from which the system would reach another one, if nex0 has it.
bool RouteTo(const Gid& remote, Gid* local);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_CM_ADDRESSING_H_
