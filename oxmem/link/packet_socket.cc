#include "oxmem/link/packet_socket.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "oxmem/link/host_claim.h"
#include "oxmem/link/packet_filter.h"
#include "transport/base/byte_order.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

// A window of full frames waits in these while the other side is busy; the kernel counts a frame
// at up to twice its length. Without CAP_NET_ADMIN the system's limit holds instead.
constexpr int kSocketBufferBytes = 8 << 20;

constexpr uint32_t kGroupBit = 1;  // of the first byte of an address

// Frames whose type field is below this are 802.3 frames to the kernel, which then files them
// under one protocol of its own (endpoints with EtherType 0 exist).
constexpr uint16_t kSmallestEtherType = 0x0600;

std::string OwnProgram() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  return length > 0 ? std::string(path, static_cast<std::size_t>(length)) : "PROGRAM";
}

void SetBuffer(int fd, int forced, int plain) {
  const int bytes = kSocketBufferBytes;
  if (setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof bytes) != 0) {
    // The system's limit cuts it; a smaller buffer only loses frames sooner.
    (void)setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof bytes);
  }
}

absl::Status CheckFrameBytes(const PacketLinkOptions& options, const InterfaceInfo& interface) {
  const std::string& name = interface.name;
  if (interface.mtu < kSmallestMaxFrameBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has an MTU of ", interface.mtu, ", and the smallest frame needs ",
                     kSmallestMaxFrameBytes, " (try: ip link set ", name, " mtu 1500)"));
  }
  if (options.max_frame_bytes > interface.mtu) {
    return absl::InvalidArgumentError(absl::StrCat(
        "frames of ", options.max_frame_bytes, " bytes do not fit the MTU of ", name, ", ",
        interface.mtu, " (try: ip link set ", name, " mtu ", options.max_frame_bytes, ")"));
  }
  if (options.max_frame_bytes != 0 && options.max_frame_bytes < kSmallestMaxFrameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("frames of at most ", options.max_frame_bytes,
                                                   " bytes are too short: the smallest has ",
                                                   kSmallestMaxFrameBytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PacketSocket> PacketSocket::Open(const PacketLinkOptions& options) {
  PacketSocket result;
  // Protocol 0: nothing comes in before the filter is in place and the socket is bound.
  result.fd_.Reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!result.fd_.valid()) {
    const int error = errno;
    if (error != EPERM && error != EACCES) return ErrnoStatus(error, "opening a packet socket");
    return ErrnoStatus(error, absl::StrCat("raw frames on ", options.interface,
                                           " need CAP_NET_RAW (run as root, or once: setcap "
                                           "cap_net_raw+ep ",
                                           OwnProgram(), ")"));
  }
  OXMEM_ASSIGN_OR_RETURN(result.interface_, FindInterface(result.fd(), options.interface));
  OXMEM_RETURN_IF_ERROR(result.Configure(options));
  return result;
}

absl::Status PacketSocket::Configure(const PacketLinkOptions& options) {
  const std::string& name = interface_.name;
  if (!interface_.ethernet) {
    return absl::InvalidArgumentError(absl::StrCat(name, " is not an Ethernet interface"));
  }
  if (!interface_.up) return CheckUsable(interface_);
  OXMEM_RETURN_IF_ERROR(CheckFrameBytes(options, interface_));
  max_frame_bytes_ = options.max_frame_bytes != 0 ? options.max_frame_bytes : interface_.mtu;
  mac_ = options.mac.value_or(interface_.mac);
  if (mac_ == MacAddress()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has no hardware address that frames could come from: "
                           "choose one (mac=, or behind the interface to listen on)"));
  }
  ether_type_ = options.ether_type;
  peer_ = options.peer;
  virtual_channel_ = options.virtual_channel;
  if (options.peer == mac_) {
    return absl::InvalidArgumentError(absl::StrCat(FormatMacAddress(mac_),
                                                   " is this end's own address on ", name,
                                                   "; name the address of the endpoint"));
  }
  if (options.virtual_channel.value_or(0) > 7) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are virtual channels 0 to 7, not ", *options.virtual_channel));
  }
  if (options.exclusive) OXMEM_RETURN_IF_ERROR(Claim(options));
  SetBuffer(fd(), SO_RCVBUFFORCE, SO_RCVBUF);
  SetBuffer(fd(), SO_SNDBUFFORCE, SO_SNDBUF);
  return absl::OkStatus();
}

absl::Status PacketSocket::Claim(const PacketLinkOptions& options) {
  std::string what =
      absl::StrFormat("%s/%s/%04x", interface_.name, FormatMacAddress(mac_), ether_type_);
  if (options.peer) absl::StrAppend(&what, "/", FormatMacAddress(*options.peer));
  if (options.virtual_channel) absl::StrAppend(&what, "/", *options.virtual_channel);
  absl::StatusOr<UniqueFd> claim = ClaimOnHost(what);
  if (claim.ok()) {
    claim_ = *std::move(claim);
    return absl::OkStatus();
  }
  if (claim.status().code() != absl::StatusCode::kAlreadyExists) return claim.status();
  const std::string holder(claim.status().message());
  if (options.peer) {
    return absl::AlreadyExistsError(absl::StrCat(
        "the connection to ", FormatMacAddress(*options.peer), " on ", interface_.name,
        " is in use by ", holder, " (try another virtual channel, vc=, or address, mac=)"));
  }
  return absl::AlreadyExistsError(absl::StrCat(FormatMacAddress(mac_), " on ", interface_.name,
                                               " is already served by ", holder,
                                               " (stop it, or answer on another address, as in ",
                                               "tloe://", interface_.name, "/02:00:00:00:00:01)"));
}

absl::Status PacketSocket::AttachFilter() {
  PacketFilter filter;
  filter.RequireMac(0, mac_);
  filter.RequireHalf(12, ether_type_);
  if (peer_) {
    filter.RequireMac(6, *peer_);
  } else {
    filter.RequireClear(6,
                        kGroupBit);  // nobody has such an address, and an answer would go to many
  }
  if (virtual_channel_) filter.RequireTopBits(kEthernetHeaderBytes, 5, *virtual_channel_);
  // A frame of a VLAN that nobody here has comes in without its tag, marked as somebody else's;
  // but so is every frame for an address that is not the interface's own.
  if (mac_ == interface_.mac) filter.RequireKind(PACKET_HOST);
  return filter.Attach(fd());
}

absl::Status PacketSocket::Bind() {
  OXMEM_RETURN_IF_ERROR(Annotate(AttachFilter(), interface_.name));
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol =
      htons(ether_type_ < kSmallestEtherType ? uint16_t{ETH_P_802_2} : ether_type_);
  address.sll_ifindex = interface_.index;
  if (bind(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoStatus(errno, absl::StrCat("binding to ", interface_.name));
  }
  if (mac_ != interface_.mac) {
    packet_mreq membership = {};
    membership.mr_ifindex = interface_.index;
    membership.mr_type = PACKET_MR_UNICAST;
    membership.mr_alen = static_cast<unsigned short>(mac_.bytes.size());
    std::memcpy(membership.mr_address, mac_.bytes.data(), mac_.bytes.size());
    if (setsockopt(fd(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) != 0) {
      return ErrnoStatus(errno, absl::StrCat("telling ", interface_.name, " to take frames for ",
                                             FormatMacAddress(mac_)));
    }
  }
  return absl::OkStatus();
}

std::array<std::byte, kEthernetHeaderBytes> PacketSocket::HeaderTemplate() const {
  std::array<std::byte, kEthernetHeaderBytes> header{};
  std::memcpy(header.data() + 6, mac_.bytes.data(), mac_.bytes.size());
  StoreBigEndian<uint16_t>(header.data() + 12, ether_type_);
  return header;
}

absl::Status PacketSocket::CheckInterface(const InterfaceInfo& now) const {
  OXMEM_RETURN_IF_ERROR(CheckUsable(now));
  if (now.mtu < max_frame_bytes_) {
    return absl::UnavailableError(absl::StrCat("the MTU of ", now.name, " is now ", now.mtu,
                                               ", too small for the frames of ", max_frame_bytes_,
                                               " bytes in use (try: ip link set ", now.name,
                                               " mtu ", max_frame_bytes_, ")"));
  }
  return absl::OkStatus();
}

absl::Status PacketSocket::Health() const {
  const absl::StatusOr<InterfaceInfo> now = FindInterface(fd(), interface_.name);
  if (!now.ok()) return now.status();
  OXMEM_RETURN_IF_ERROR(CheckInterface(*now));
  if (now->index == interface_.index && now->mac != interface_.mac) {
    return absl::UnavailableError(absl::StrCat("the address of ", now->name, " was changed from ",
                                               FormatMacAddress(interface_.mac), " to ",
                                               FormatMacAddress(now->mac),
                                               " under the running program (change it back, or "
                                               "start anew)"));
  }
  return absl::OkStatus();
}

absl::Status PacketSocket::Heal() {
  absl::StatusOr<InterfaceInfo> now = FindInterface(fd(), interface_.name);
  if (!now.ok()) return now.status();
  OXMEM_RETURN_IF_ERROR(CheckInterface(*now));
  if (now->index == interface_.index && now->mac == interface_.mac) return absl::OkStatus();
  // The address the peers know stays ours, whatever the interface's own is now.
  interface_ = *std::move(now);
  return Bind();
}

absl::Status PacketSocket::FrameTooLong(std::size_t frame_bytes) const {
  OXMEM_RETURN_IF_ERROR(Health());
  return absl::InvalidArgumentError(absl::StrCat("a frame of ", frame_bytes,
                                                 " bytes was not sent: ", interface_.name,
                                                 " takes at most ", max_frame_bytes_));
}

uint32_t PacketSocket::TakeReceiveDrops() {
  tpacket_stats stats = {};
  socklen_t length = sizeof stats;
  if (getsockopt(fd(), SOL_PACKET, PACKET_STATISTICS, &stats, &length) != 0) return 0;
  return stats.tp_drops;
}

}  // namespace oxmem::link
