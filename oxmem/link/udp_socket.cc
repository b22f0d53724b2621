#include "oxmem/link/udp_socket.h"

#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

constexpr int kSocketBufferBytes = 8 << 20;
constexpr int kLargestHopCount = 255;
constexpr std::size_t kIpv4HeaderBytes = 20;
constexpr std::size_t kIpv6HeaderBytes = 40;
constexpr std::size_t kUdpHeaderBytes = 8;

absl::Status SetOption(int fd, int level, int option, int value, const char* what) {
  if (setsockopt(fd, level, option, &value, sizeof value) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, what);
}

// Lets in what has crossed at most this many routers. The socket may see both kinds of packet.
absl::Status FilterHops(int fd, int hops) {
  const auto network = [](int offset) { return static_cast<uint32_t>(SKF_NET_OFF + offset); };
  const auto least = static_cast<uint32_t>(kLargestHopCount - hops);
  std::array<sock_filter, 9> code = {{
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, network(0)),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 0, 2),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, network(7)),  // IPv6: hop limit
      BPF_STMT(BPF_JMP | BPF_JA, 1),
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, network(8)),  // IPv4: time to live
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, least, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
      BPF_STMT(BPF_RET | BPF_K, 0),
  }};
  const sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) {
    return ErrnoStatus(errno, "attaching the hop filter");
  }
  return absl::OkStatus();
}

void SetBuffer(int fd, int forced, int plain) {
  const int bytes = kSocketBufferBytes;
  if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof bytes) != 0) {
    // The system's limit cuts it; a smaller buffer only loses frames sooner.
    (void)setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
  }
}

// Fragments are allowed and path MTU messages, which anybody can forge, are not listened to.
absl::Status Configure(const UdpSocket& socket, int hops) {
  const int fd = socket.fd.get();
  if (socket.family == AF_INET6) {
    OXMEM_RETURN_IF_ERROR(SetOption(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, kLargestHopCount,
                                    "setting the IPv6 hop limit"));
    OXMEM_RETURN_IF_ERROR(SetOption(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT,
                                    "switching IPv6 path MTU discovery off"));
    OXMEM_RETURN_IF_ERROR(SetOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0, "taking IPv4 packets"));
  }
  // For an IPv6 socket these are about the IPv4 packets it may carry.
  OXMEM_RETURN_IF_ERROR(
      SetOption(fd, IPPROTO_IP, IP_TTL, kLargestHopCount, "setting the time to live"));
  OXMEM_RETURN_IF_ERROR(SetOption(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT,
                                  "switching path MTU discovery off"));
  SetBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF);
  SetBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF);
  return FilterHops(fd, hops);
}

absl::Status Connect(int fd, int family, const Address& to) {
  sockaddr_storage storage;
  const socklen_t length = ToSockaddr(to, family, storage);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&storage), length) == 0) {
    return absl::OkStatus();
  }
  const int error = errno;
  return absl::UnavailableError(absl::StrCat("no way to udp ", FormatUdpAddress(to), ": ",
                                             std::string(std::strerror(error)),
                                             " (is the network interface up?)"));
}

absl::Status Bind(int fd, int family, const Address& local) {
  sockaddr_storage storage;
  const socklen_t length = ToSockaddr(local, family, storage);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&storage), length) == 0) return absl::OkStatus();
  const int error = errno;
  const std::string text = FormatUdpAddress(local);
  if (error == EADDRINUSE) {
    return ErrnoStatus(
        error, absl::StrCat("udp ", text, " is taken (another node runs there? see: ss -ulpn)"));
  }
  if (error == EADDRNOTAVAIL) {
    return ErrnoStatus(error, absl::StrCat("udp ", text, " is no address of this host"));
  }
  return ErrnoStatus(error, absl::StrCat("binding to udp ", text));
}

absl::StatusOr<Address> OwnAddress(int fd) {
  sockaddr_storage storage = {};
  socklen_t length = sizeof storage;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return ErrnoStatus(errno, "asking for the socket's own address");
  }
  return FromSockaddr(storage);
}

absl::StatusOr<UdpSocket> OpenFamily(const UdpLinkOptions& options, int family) {
  UdpSocket result;
  result.family = family;
  result.fd.Reset(socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!result.fd.valid()) return ErrnoStatus(errno, "opening a UDP socket");
  OXMEM_RETURN_IF_ERROR(Configure(result, options.hops));
  result.probe.Reset(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!result.probe.valid()) return ErrnoStatus(errno, "opening a UDP socket");
  if (options.local) OXMEM_RETURN_IF_ERROR(Bind(result.fd.get(), family, *options.local));
  if (options.peer) OXMEM_RETURN_IF_ERROR(Connect(result.fd.get(), family, *options.peer));
  OXMEM_ASSIGN_OR_RETURN(result.local, OwnAddress(result.fd.get()));
  return result;
}

}  // namespace

absl::StatusOr<UdpSocket> OpenUdpSocket(const UdpLinkOptions& options) {
  if (!options.local && !options.peer) {
    return absl::InvalidArgumentError("a UDP link needs an address to bind to or a peer");
  }
  if (options.hops < 0 || options.hops > kLargestHopCount) {
    return absl::InvalidArgumentError(absl::StrCat("hops is 0 to 255, not ", options.hops));
  }
  if (options.local && options.peer && FamilyOf(*options.local) != FamilyOf(*options.peer)) {
    return absl::InvalidArgumentError(absl::StrCat(FormatUdpAddress(*options.local), " and ",
                                                   FormatUdpAddress(*options.peer),
                                                   " are not both IPv4 or both IPv6"));
  }
  const Address& first = options.local ? *options.local : *options.peer;
  absl::StatusOr<UdpSocket> result = OpenFamily(options, FamilyOf(first));
  const bool no_ipv6 = !result.ok() && ErrnoOf(result.status()) == EAFNOSUPPORT;
  if (no_ipv6 && options.local && IsWildcard(*options.local)) return OpenFamily(options, AF_INET);
  return result;
}

absl::StatusOr<std::size_t> UdpPayloadTo(const UdpSocket& socket, const Address& peer) {
  const int fd = socket.probe.get();
  OXMEM_RETURN_IF_ERROR(Connect(fd, socket.family, peer));
  const bool v6 = socket.family == AF_INET6;
  int mtu = 0;
  socklen_t length = sizeof mtu;
  if (getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu, &length) != 0) {
    return ErrnoStatus(errno, absl::StrCat("asking for the MTU to ", FormatUdpAddress(peer)));
  }
  const std::size_t headers =
      (FamilyOf(peer) == AF_INET6 ? kIpv6HeaderBytes : kIpv4HeaderBytes) + kUdpHeaderBytes;
  const auto packet = static_cast<std::size_t>(std::max(mtu, 0));
  return std::min(packet > headers ? packet - headers : 0, kLargestUdpPayload);
}

uint32_t UdpDrops(int fd) {
  std::array<uint32_t, SK_MEMINFO_VARS> info{};
  socklen_t length = sizeof info;
  if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info.data(), &length) != 0) return 0;
  return info[SK_MEMINFO_DROPS];
}

}  // namespace oxmem::link
