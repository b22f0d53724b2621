// The engine's part for unreliable datagrams: UDP packets on the port of the process, and those of
// multicast groups, on a port that all processes share.
#include <errno.h>
#include <inttypes.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/debug.h"
#include "rdma/nex/engine.h"

namespace oxmem::nex {
namespace {

constexpr int kDatagramBuffer = 4 << 20;
constexpr Duration kReportPause = Duration::Seconds(1);
constexpr std::uint32_t kMostWrongKeys = 0xffff;
// So many are received before others are served.
constexpr int kReceiveShare = 64;

using PacketBuffer = std::array<std::byte, kDatagramHeaderBytes + kMaxDatagramBytes + 1>;

Gid GidOf(const ibv_gid& raw) {
  Gid gid;
  std::memcpy(gid.data(), raw.raw, gid.size());
  return gid;
}

}  // namespace

bool Engine::ListenForDatagrams(const LocalAddress& address, std::uint32_t slot, int* error) {
  UniqueFd fd(socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const sockaddr_in6 local =
      AddressOf(address.gid, static_cast<std::uint16_t>(config_.base_port + slot));
  if (!fd.valid() || bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local)) {
    *error = errno;
    return false;
  }
  // Bursts of a fast sender should find room; the system may grant less.
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kDatagramBuffer, sizeof kDatagramBuffer);
  if (address.gid[0] == 0) {
    ip_mreqn request{};
    request.imr_ifindex = static_cast<int>(address.interface_index);
    std::memcpy(&request.imr_address, &address.gid[12], 4);
    setsockopt(fd.get(), IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request);
  } else {
    const int index = static_cast<int>(address.interface_index);
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index);
  }
  datagram_fds_.push_back(std::move(fd));
  return true;
}

void Engine::PostDatagram(Qp* qp, const ibv_send_wr& wr) {
  if (qp->state == IBV_QPS_ERR || qp->state == IBV_QPS_SQE) return qp->datagrams->Flush(wr);
  const ibv_ah_attr& path = reinterpret_cast<const Ah*>(wr.wr.ud.ah)->attributes;
  const std::size_t source = path.is_global != 0 ? path.grh.sgid_index : 0;
  DatagramQp::Route route;
  route.global = path.is_global != 0;
  route.socket = source;
  route.source = config_.addresses[source].gid;
  route.destination =
      route.global ? GidOf(path.grh.dgid) : GidOfLid(config_.addresses[0].gid, path.dlid);
  // A queue key with the top bit set means: the one of this queue pair (InfiniBand 10.2.5).
  ibv_send_wr request = wr;
  if ((request.wr.ud.remote_qkey & 0x80000000u) != 0) {
    request.wr.ud.remote_qkey = qp->attributes.qkey;
  }
  if (qp->state == IBV_QPS_SQD) {
    qp->datagrams->Hold(request, route);
  } else {
    SendDatagram(qp, request, route);
  }
}

void Engine::SendHeld(Qp* qp) {
  DatagramQp::Held held;
  while (qp->datagrams->TakeHeld(&held)) {
    if (qp->state == IBV_QPS_RTS) {
      SendDatagram(qp, held.request(), held.route);
    } else {
      qp->datagrams->Flush(held.request());
    }
    DeliverDatagrams(qp);
  }
}

void Engine::SendDatagram(Qp* qp, const ibv_send_wr& request, const DatagramQp::Route& route) {
  DatagramQp::Packet packet;
  qp->datagrams->Post(request, *regions_, route, &packet);
  if (packet.pieces.bytes == 0) return;
  const bool multicast = IsMulticast(route.destination);
  const std::uint32_t qpn = request.wr.ud.remote_qpn;
  const std::uint32_t port =
      config_.base_port + (multicast ? kSlots : (qpn >> kSlotShift) & (kSlots - 1));
  sockaddr_in6 to = AddressOf(route.destination, static_cast<std::uint16_t>(port));
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof to;
  message.msg_iov = packet.pieces.pieces.data();
  message.msg_iovlen = static_cast<std::size_t>(packet.pieces.piece_count);
  const auto length = static_cast<std::uint32_t>(packet.pieces.bytes - packet.header.size());
  const ssize_t sent =
      sendmsg(datagram_fds_[route.socket].get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  const bool unreadable = sent < 0 && errno == EFAULT;
  // Nobody learns whether a datagram arrives, so any other failure to send is a lost packet.
  if (sent < 0) NEX_DEBUG(2, "datagram lost: %s", strerror(errno));
  packet.pieces.Release();
  if (unreadable) {
    qp->datagrams->OnUnreadable(request);
  } else {
    qp->datagrams->OnSent(request, length);
  }
}

void Engine::DeliverDatagrams(Qp* qp) {
  bool lost = false;
  for (const Completion& done : qp->datagrams->completions()) {
    Cq* const cq = done.receive ? qp->recv_cq : qp->send_cq;
    auto* const slots = done.receive ? nullptr : &qp->unpolled;
    if (!PushCompletion(cq, done.wc, done.solicited, slots)) lost = true;
  }
  qp->datagrams->completions().clear();
  if (lost) EnterFatal(qp);
  if (qp->datagrams->TakeSendFailed()) EnterSendError(qp);
  if (qp->datagrams->TakeReceiveFailed()) EnterError(qp);
}

void Engine::ReceiveDatagrams(std::size_t socket) {
  PacketBuffer packet;
  const int fd = datagram_fds_[socket].get();
  const std::lock_guard lock(datagrams_mutex_);
  for (int i = 0; i < kReceiveShare; ++i) {
    const ssize_t got = recv(fd, packet.data(), packet.size(), MSG_DONTWAIT);
    if (got < 0) return;
    const auto bytes = std::span<const std::byte>(packet).first(static_cast<std::size_t>(got));
    const DatagramFate fate = RouteDatagram(bytes);
    if (fate != DatagramFate::kReceived) ReportLost(fd, fate);
  }
}

void Engine::ReceiveFromGroup(int fd) {
  PacketBuffer packet;
  const std::lock_guard lock(datagrams_mutex_);
  for (int i = 0; i < kReceiveShare; ++i) {
    const MulticastGroups::Received got = groups_.Receive(fd, packet);
    if (got.bytes < 0) return;
    const auto bytes =
        std::span<const std::byte>(packet).first(static_cast<std::size_t>(got.bytes));
    const DatagramFate fate = DeliverToGroup(bytes, got.group, got.members);
    if (fate != DatagramFate::kReceived) ReportLost(fd, fate);
  }
}

void Engine::ReportLost(int fd, DatagramFate fate) {
  ++lost_[static_cast<std::size_t>(fate)];
  if (debug_level < 1) return;
  const Instant now = Now();
  if (now < report_lost_at_) return;
  report_lost_at_ = now + kReportPause;
  std::uint32_t memory[SK_MEMINFO_VARS] = {};
  socklen_t size = sizeof memory;
  getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size);
  const auto of = [this](DatagramFate kind) { return lost_[static_cast<std::size_t>(kind)]; };
  NEX_DEBUG(1,
            "datagrams lost so far: %" PRIu64 " without a receive, %" PRIu64
            " with a wrong key, %" PRIu64 " to no queue pair, %" PRIu64
            " malformed, %u in a full socket",
            of(DatagramFate::kNoReceive), of(DatagramFate::kWrongKey),
            of(DatagramFate::kNoQueuePair), of(DatagramFate::kMalformed), memory[SK_MEMINFO_DROPS]);
}

DatagramFate Engine::DeliverPacket(Qp* qp, std::uint32_t qpn, const DatagramHeader& header,
                                   std::span<const std::byte> payload) {
  const QpLock lock(*this, qp);
  if (!qp->alive || !qp->datagrams || !qp->receives) return DatagramFate::kNoQueuePair;
  if (qp->handle()->qp_num != qpn || qp->state < IBV_QPS_RTR || qp->state == IBV_QPS_ERR) {
    return DatagramFate::kNoQueuePair;
  }
  const DatagramFate fate =
      qp->datagrams->OnPacket(header, payload, qp->attributes.qkey, *regions_, *qp->receives);
  DeliverDatagrams(qp);
  // A counter of the port, which stops at its end.
  const std::uint32_t wrong = wrong_keys();
  if (fate == DatagramFate::kWrongKey && wrong < kMostWrongKeys) wrong_keys_.store(wrong + 1);
  return fate;
}

DatagramFate Engine::RouteDatagram(std::span<const std::byte> packet) {
  if (packet.size() < kDatagramHeaderBytes) return DatagramFate::kMalformed;
  const auto header = DecodeDatagram(packet.first<kDatagramHeaderBytes>());
  if (!header) return DatagramFate::kMalformed;
  // Groups have sockets of their own.
  Qp* qp = header->destination_qpn == kMulticastQpn ? nullptr : FindQp(header->destination_qpn);
  if (qp == nullptr) return DatagramFate::kNoQueuePair;
  return DeliverPacket(qp, header->destination_qpn, *header, packet.subspan(kDatagramHeaderBytes));
}

DatagramFate Engine::DeliverToGroup(std::span<const std::byte> packet, const Gid& group,
                                    const std::vector<Qp*>& members) {
  if (packet.size() < kDatagramHeaderBytes) return DatagramFate::kMalformed;
  const auto header = DecodeDatagram(packet.first<kDatagramHeaderBytes>());
  if (!header) return DatagramFate::kMalformed;
  if (header->destination_qpn != kMulticastQpn || header->destination_gid != group) {
    return DatagramFate::kMalformed;
  }
  const bool from_here =
      std::any_of(config_.addresses.begin(), config_.addresses.end(),
                  [&](const LocalAddress& address) { return address.gid == header->source_gid; });
  DatagramFate worst = DatagramFate::kReceived;
  for (Qp* qp : members) {
    const std::uint32_t qpn = qp->handle()->qp_num;
    // Another host may have given the number too.
    if (qp->deaf_to_itself && from_here && qpn == header->source_qpn) continue;
    worst = std::max(worst, DeliverPacket(qp, qpn, *header, packet.subspan(kDatagramHeaderBytes)));
  }
  return worst;
}

int Engine::JoinGroup(Qp* qp, const Gid& group) {
  if (!IsMulticast(group)) return EINVAL;
  if (qp->datagrams->InGroup(group)) return 0;
  const std::uint64_t tag = std::uint64_t{static_cast<std::uint32_t>(Kind::kGroup)} << 32;
  const int error = groups_.Join(qp, group, config_, epoll_.get(), tag);
  if (error == 0) qp->datagrams->AddGroup(group);
  return error;
}

int Engine::LeaveGroup(Qp* qp, const Gid& group) {
  if (!qp->datagrams->RemoveGroup(group)) return EINVAL;
  groups_.Leave(qp, group);
  return 0;
}

}  // namespace oxmem::nex
