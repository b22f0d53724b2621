#include "rdma/nex/multicast.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace oxmem::nex {
namespace {

constexpr int kBufferBytes = 4 << 20;

bool IsV4(const Gid& gid) { return gid[0] == 0 && gid[10] == 0xff && gid[11] == 0xff; }

int SetInt(int fd, int level, int option, int value) {
  return setsockopt(fd, level, option, &value, sizeof value);
}

// The interface that a packet came in on, of a socket that tells it; 0: it did not.
std::uint32_t InterfaceIn(msghdr* message) {
  for (cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr; part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != IPPROTO_IPV6 || part->cmsg_type != IPV6_PKTINFO) continue;
    in6_pktinfo info;
    std::memcpy(&info, CMSG_DATA(part), sizeof info);
    return info.ipi6_ifindex;
  }
  return 0;
}

}  // namespace

bool IsMulticast(const Gid& gid) {
  return gid[0] == 0xff || (IsV4(gid) && (gid[12] & 0xf0) == 0xe0);
}

int MulticastGroups::Open(const Gid& group, const LocalAddress& address, std::uint16_t port,
                          Socket* out) {
  const bool v4 = IsV4(group);
  const auto index = static_cast<int>(address.interface_index);
  UniqueFd fd(socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno;
  // Every process of the host hears its groups on this port.
  SetInt(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  // Bursts of a fast sender should find room; the system may grant less.
  SetInt(fd.get(), SOL_SOCKET, SO_RCVBUF, kBufferBytes);
  if (v4) {
    sockaddr_in local{};
    local.sin_family = AF_INET;
    local.sin_port = htons(port);
    std::memcpy(&local.sin_addr, &group[12], 4);
    ip_mreqn request{};
    request.imr_multiaddr = local.sin_addr;
    request.imr_ifindex = index;
    // What comes in on other interfaces, where other programs joined the group, is not for us.
    if (SetInt(fd.get(), IPPROTO_IP, IP_MULTICAST_ALL, 0) != 0 ||
        bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0 ||
        setsockopt(fd.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof request) != 0) {
      return errno;
    }
  } else {
    sockaddr_in6 local = AddressOf(group, port);
    local.sin6_scope_id = address.interface_index;
    ipv6_mreq request{};
    request.ipv6mr_multiaddr = local.sin6_addr;
    request.ipv6mr_interface = address.interface_index;
    // Here the system does not keep them apart, so the packets say where they came in.
    if (SetInt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1) != 0 ||
        SetInt(fd.get(), IPPROTO_IPV6, IPV6_RECVPKTINFO, 1) != 0 ||
        bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0 ||
        setsockopt(fd.get(), IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &request, sizeof request) != 0) {
      return errno;
    }
  }
  *out = {std::move(fd), address.interface_index, !v4};
  return 0;
}

// An interface may have no addresses of the group's family; one is enough.
int MulticastGroups::OpenAll(const Gid& group, const Config& config, std::vector<Socket>* sockets) {
  const auto port = static_cast<std::uint16_t>(config.base_port + kSlots);
  int error = 0;
  for (const LocalAddress& address : config.addresses) {
    const bool known = std::any_of(sockets->begin(), sockets->end(), [&](const Socket& one) {
      return one.interface_index == address.interface_index;
    });
    if (known) continue;
    Socket socket;
    if (const int result = Open(group, address, port, &socket); result != 0) {
      error = result;
    } else {
      sockets->push_back(std::move(socket));
    }
  }
  return sockets->empty() ? error : 0;
}

int MulticastGroups::Join(Qp* qp, const Gid& group, const Config& config, int epoll,
                          std::uint64_t tag) {
  const std::lock_guard lock(mutex_);
  if (const auto found = groups_.find(group); found != groups_.end()) {
    if (found->second.members.size() >= std::size_t{kMaxMembers}) return ENOMEM;
    found->second.members.push_back(qp);
    return 0;
  }
  if (groups_.size() >= std::size_t{kMaxGroups}) return ENOMEM;
  Group fresh;
  if (const int error = OpenAll(group, config, &fresh.sockets); error != 0) return error;
  for (const Socket& socket : fresh.sockets) {
    const int fd = socket.fd.get();
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag | static_cast<std::uint32_t>(fd);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) return errno;
  }
  for (const Socket& socket : fresh.sockets) group_of_[socket.fd.get()] = group;
  fresh.members.push_back(qp);
  groups_[group] = std::move(fresh);
  return 0;
}

void MulticastGroups::Leave(Qp* qp, const Gid& group) {
  const std::lock_guard lock(mutex_);
  const auto found = groups_.find(group);
  if (found == groups_.end()) return;
  std::erase(found->second.members, qp);
  if (!found->second.members.empty()) return;
  for (const Socket& socket : found->second.sockets) group_of_.erase(socket.fd.get());
  groups_.erase(found);
}

MulticastGroups::Received MulticastGroups::Receive(int fd, std::span<std::byte> buffer) {
  Received received;
  const std::lock_guard lock(mutex_);
  const auto known = group_of_.find(fd);
  if (known == group_of_.end()) return received;
  const Group& group = groups_.at(known->second);
  const auto socket = std::find_if(group.sockets.begin(), group.sockets.end(),
                                   [fd](const Socket& one) { return one.fd.get() == fd; });
  iovec space{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(in6_pktinfo))> control;
  msghdr message{};
  message.msg_iov = &space;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  received.bytes = recvmsg(fd, &message, MSG_DONTWAIT);
  if (received.bytes < 0) return received;
  received.group = known->second;
  if (!socket->v6 || InterfaceIn(&message) == socket->interface_index) {
    received.members = group.members;
  }
  return received;
}

void MulticastGroups::CloseInChild() {
  for (auto& [gid, group] : groups_) group.sockets.clear();
}

}  // namespace oxmem::nex
