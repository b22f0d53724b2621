// The commands that give an identifier its addresses: binding, resolving an address, and a route.
#include <errno.h>
#include <sys/socket.h>

#include <algorithm>

#include "rdma/nex/cm/addressing.h"
#include "rdma/nex/cm/manager.h"
#include "rdma/nex/library.h"

namespace oxmem::nex {

int CmManager::BindSocket(Id& id, const Gid& gid, std::uint16_t* port) {
  UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno;
  const int one = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in6 local = AddressOf(gid, *port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) return errno;
  socklen_t size = sizeof local;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&local), &size);
  *port = ntohs(local.sin6_port);
  id.sockets.push_back(std::move(fd));
  return 0;
}

// A wildcard of IPv6 stands for IPv4 too, unless the program does without, and one of IPv4 for
// itself; but where nex0 has no IPv4 address it stands for all, so that servers need no option.
int CmManager::BindSockets(Id& id, const sockaddr_in6& address, std::uint16_t* port) {
  const Gid gid = GidOf(address);
  const auto& all = Library::Get()->config().addresses;
  const bool v4 = address.sin6_family != AF_INET6;
  const auto is_wanted = [&](const LocalAddress& one) { return IsV4(one.gid) == v4; };
  const bool both = v4 ? std::none_of(all.begin(), all.end(), is_wanted) : !id.own_family_only;
  for (const LocalAddress& one : all) {
    if (IsAny(gid) ? !both && !is_wanted(one) : one.gid != gid) continue;
    if (const int error = BindSocket(id, one.gid, port); error != 0) {
      id.sockets.clear();
      return error;
    }
  }
  return 0;
}

int CmManager::BindIp(const rdma_ucm_bind_ip& command) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  if (command.addr.sin6_family != AF_INET && command.addr.sin6_family != AF_INET6) {
    return EAFNOSUPPORT;
  }
  if (id->state() != State::kIdle || id->source.sin6_family != 0) return EINVAL;
  const Gid gid = GidOf(command.addr);
  if (!IsAny(gid) && !IsConfigured(gid)) return HandOver(*id) ? kOfKernel : ENODEV;
  std::uint16_t port = ntohs(command.addr.sin6_port);
  const int error = BindSockets(*id, command.addr, &port);
  // The UDP port space is another one: a TCP port is needed there only to listen, and rsockets use
  // numbers that they got for UDP sockets.
  const bool later = error == EADDRINUSE && id->datagram() && port != 0;
  if (error != 0 && !later) return error;
  id->bound = command;
  id->source = command.addr;
  SetPort(&id->source, port);
  return 0;
}

int CmManager::ResolveIp(const rdma_ucm_resolve_ip& command) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  const int family = command.dst_addr.sin6_family;
  if (family != AF_INET && family != AF_INET6) return EAFNOSUPPORT;
  if (id->state() != State::kIdle || id->destination.sin6_family != 0) return EINVAL;
  const Gid remote = Destination(GidOf(command.dst_addr));
  const bool bound = id->source.sin6_family != 0 && !IsAny(GidOf(id->source));
  Gid local{};
  bool found = true;
  if (bound) {
    local = GidOf(id->source);
  } else if (command.src_addr.sin6_family != 0 && !IsAny(GidOf(command.src_addr))) {
    local = GidOf(command.src_addr);
    found = IsConfigured(local);
  } else if (remote[0] == 0xff || (remote[10] == 0xff && (remote[12] & 0xf0) == 0xe0)) {
    local = Library::Get()->config().addresses[0].gid;  // groups are joined there
  } else {
    found = RouteTo(remote, &local);
  }
  if (!found && HandOver(*id)) return kOfKernel;
  if (!found) {
    Push(*id, kCmAddressError, -ENODEV, nullptr);
    return 0;
  }
  id->destination = command.dst_addr;
  id->awaits_route = true;
  SetGid(&id->destination, remote);
  const in_port_t port = id->source.sin6_port;
  id->source.sin6_family = static_cast<sa_family_t>(family);
  id->source.sin6_port = port;
  SetGid(&id->source, local);
  if (port == 0) {
    std::uint16_t chosen = 0;
    if (id->sockets.empty() && BindSocket(*id, local, &chosen) == 0) SetPort(&id->source, chosen);
  }
  Push(*id, kCmAddressResolved, 0, nullptr);
  return 0;
}

int CmManager::ResolveRoute(const rdma_ucm_resolve_route& command) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  if (!id->awaits_route) return EINVAL;
  id->awaits_route = false;
  Push(*id, kCmRouteResolved, 0, nullptr);
  return 0;
}

}  // namespace oxmem::nex
