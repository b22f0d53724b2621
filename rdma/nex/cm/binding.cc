// The commands that give an identifier its addresses: binding, resolving an address, and a route.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "rdma/nex/cm/addressing.h"
#include "rdma/nex/cm/manager.h"
#include "rdma/nex/library.h"

namespace oxmem::nex {

void CmManager::AllowReuse(int fd, bool allowed) {
  const int value = allowed ? 1 : 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &value, sizeof value);
}

int CmManager::MakeSocket(int type, bool reuse, const Gid& gid, std::uint16_t* port,
                          UniqueFd* made) {
  UniqueFd fd(socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno;
  if (reuse) AllowReuse(fd.get(), true);
  sockaddr_in6 local = AddressOf(gid, *port);
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0) return errno;
  socklen_t size = sizeof local;
  getsockname(fd.get(), reinterpret_cast<sockaddr*>(&local), &size);
  *port = ntohs(local.sin6_port);
  *made = std::move(fd);
  return 0;
}

// For TCP, SO_REUSEADDR lets a port be used where old connections of it linger. For UDP it lets
// several have the port, so it is for identifiers that allow this, for none that listens, and for
// no choice of the system's.
int CmManager::BindNumber(Id& id, const Gid& gid, std::uint16_t* number) {
  UniqueFd fd;
  if (!id.has_places()) {
    if (const int error = MakeSocket(SOCK_STREAM, true, gid, number, &fd); error != 0) return error;
    id.sockets.push_back(std::move(fd));
    return 0;
  }
  const bool shared = id.shares_number && *number != 0;
  if (const int error = MakeSocket(SOCK_DGRAM, shared, gid, number, &fd); error != 0) return error;
  AllowReuse(fd.get(), id.shares_number);
  Watch(id, fd.get(), EPOLLIN);
  id.places.push_back({std::move(fd), gid, 0});
  return 0;
}

// A wildcard of IPv6 stands for IPv4 too, unless the program does without, and one of IPv4 for
// itself; but where nex0 has no IPv4 address it stands for all, so that servers need no option.
int CmManager::BindNumbers(Id& id, const sockaddr_in6& address, std::uint16_t* number) {
  const Gid gid = GidOf(address);
  const auto& all = Library::Get()->config().addresses;
  const bool v4 = address.sin6_family != AF_INET6;
  const auto is_wanted = [&](const LocalAddress& one) { return IsV4(one.gid) == v4; };
  const bool both = v4 ? std::none_of(all.begin(), all.end(), is_wanted) : !id.own_family_only;
  const auto bind_all = [&] {
    for (const LocalAddress& one : all) {
      if (IsAny(gid) ? !both && !is_wanted(one) : one.gid != gid) continue;
      if (const int error = BindNumber(id, one.gid, number); error != 0) return error;
    }
    return 0;
  };
  // What the system chooses for the first address may be taken at another one.
  constexpr int kTries = 32;
  const std::uint16_t wanted = *number;
  int error = bind_all();
  for (int i = 1; error == EADDRINUSE && wanted == 0 && i < kTries; ++i) {
    CloseSockets(id);
    *number = 0;
    error = bind_all();
  }
  if (error != 0) CloseSockets(id);
  return error;
}

// Of the addresses that an identifier is bound to, that of its route remains.
int CmManager::BindForRoute(Id& id) {
  const Gid gid = GidOf(id.source);
  std::uint16_t number = ntohs(id.source.sin6_port);
  if (id.has_places()) {
    std::erase_if(id.places, [&](const Place& place) {
      if (place.gid == gid) return false;
      Forget(place.fd.get());
      return true;
    });
    if (!id.places.empty()) return 0;
  } else {
    const bool several = id.sockets.size() > 1;
    if (several) CloseSockets(id);
    if (!id.sockets.empty()) return 0;
    if (!several) number = 0;
  }
  if (const int error = BindNumber(id, gid, &number); error != 0) return error;
  SetPort(&id.source, number);
  return 0;
}

// From now on the number is the identifier's own: nobody who allows sharing has it as well.
int CmManager::ClaimPlace(Id& id, Place& place) {
  std::uint16_t number = ntohs(id.source.sin6_port);
  Forget(place.fd.get());
  place.fd.Reset();
  const int error = MakeSocket(SOCK_DGRAM, false, place.gid, &number, &place.fd);
  if (error != 0) MakeSocket(SOCK_DGRAM, true, place.gid, &number, &place.fd);
  Watch(id, place.fd.get(), EPOLLIN);
  return error;
}

int CmManager::ListenAtPlaces(Id& id, int backlog) {
  const auto listen_at = [&](Place& place) {
    if (id.shares_number) {
      if (const int error = ClaimPlace(id, place); error != 0) return error;
    }
    UniqueFd fd;
    std::uint16_t port = 0;
    // One on which old connections linger is good enough where there is no other.
    int error = MakeSocket(SOCK_STREAM, false, place.gid, &port, &fd);
    if (error == EADDRINUSE) error = MakeSocket(SOCK_STREAM, true, place.gid, &port, &fd);
    if (error != 0) return error;
    if (listen(fd.get(), backlog) != 0) return errno;
    place.listens_at = port;
    id.sockets.push_back(std::move(fd));
    return 0;
  };
  for (Place& place : id.places) {
    if (const int error = listen_at(place); error != 0) {
      id.sockets.clear();
      for (Place& other : id.places) other.listens_at = 0;
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
  const int error = BindNumbers(*id, command.addr, &port);
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
  if (const Gid own = GidOf(command.src_addr); id->source.sin6_family == 0 &&
                                               command.src_addr.sin6_port != 0 &&
                                               (IsAny(own) || IsConfigured(own))) {
    const rdma_ucm_bind_ip bind{.response = 0, .addr = command.src_addr, .id = command.id};
    if (const int error = BindIp(bind); error != 0) return error;
  }
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
    const bool unbound = id->sockets.empty() && id->places.empty();
    if (unbound && BindNumber(*id, local, &chosen) == 0) SetPort(&id->source, chosen);
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
