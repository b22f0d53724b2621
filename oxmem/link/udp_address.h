#ifndef OXMEM_LINK_UDP_ADDRESS_H_
#define OXMEM_LINK_UDP_ADDRESS_H_

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "oxmem/link/link.h"

namespace oxmem::link {

// "HOST:PORT" with a name, an IPv4 address or an IPv6 address in brackets; "*:PORT" is every
// address of this host, of both kinds. Asks the system's resolver, so it may block.
absl::StatusOr<Address> ResolveUdpAddress(std::string_view host_and_port);

// "10.0.0.1:4000", "[fe80::1%3]:4000".
std::string FormatUdpAddress(const Address& address);

// Whether it names every address of the host.
bool IsWildcard(const Address& address);

// AF_INET or AF_INET6.
int FamilyOf(const Address& address);

// How a socket of the family writes it, IPv4 in IPv6 clothes where it must be. Returns the length
// used.
socklen_t ToSockaddr(const Address& address, int family, sockaddr_storage& storage);

// From what the system wrote; IPv4 in IPv6 clothes becomes plain IPv4. An unknown family gives an
// address equal to none.
Address FromSockaddr(const sockaddr_storage& storage);

}  // namespace oxmem::link

#endif  // OXMEM_LINK_UDP_ADDRESS_H_
