#include "rdma/nex/cm/addressing.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/library.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

bool IsV4(const Gid& gid) { return gid[0] == 0 && gid[10] == 0xff && gid[11] == 0xff; }

namespace {

// Loopback addresses where nex0 has none. As in the kernel, they stand for no device in particular
// as a source, and for this host as a destination.
bool IsForeignLoopback(const Gid& gid) {
  static constexpr Gid kLoopback6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return (gid == kLoopback6 || (IsV4(gid) && gid[12] == 127)) && !IsConfigured(gid);
}

}  // namespace

bool IsConfigured(const Gid& gid) {
  const auto& addresses = Library::Get()->config().addresses;
  return std::any_of(addresses.begin(), addresses.end(),
                     [&](const LocalAddress& address) { return address.gid == gid; });
}

bool IsAny(const Gid& gid) {
  static constexpr Gid kAny6{};
  static constexpr Gid kAny4{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};
  return gid == kAny6 || gid == kAny4 || IsForeignLoopback(gid);
}

Gid Destination(const Gid& remote) {
  if (!IsForeignLoopback(remote)) return remote;
  for (const LocalAddress& address : Library::Get()->config().addresses) {
    if (IsV4(address.gid) == IsV4(remote)) return address.gid;
  }
  return remote;
}

void SetPort(sockaddr_in6* address, std::uint16_t port) { address->sin6_port = htons(port); }

void SetGid(sockaddr_in6* address, const Gid& gid) {
  const in_port_t port = address->sin6_port;
  if (address->sin6_family == AF_INET) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = port;
    std::memcpy(&v4.sin_addr, &gid[12], 4);
    std::memset(address, 0, sizeof *address);
    std::memcpy(address, &v4, sizeof v4);
  } else {
    std::memcpy(&address->sin6_addr, gid.data(), 16);
  }
}

bool RouteTo(const Gid& remote, Gid* local) {
  if (IsConfigured(remote)) {
    *local = remote;
    return true;
  }
  const UniqueFd probe(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr_in6 to = AddressOf(remote, 9);
  sockaddr_in6 from{};
  socklen_t size = sizeof from;
  if (!probe.valid() ||
      connect(probe.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 ||
      getsockname(probe.get(), reinterpret_cast<sockaddr*>(&from), &size) != 0) {
    return false;
  }
  *local = GidOf(from);
  return IsConfigured(*local);
}

}  // namespace oxmem::nex
