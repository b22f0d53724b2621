// The commands of rdma_user_cm.h.
#include <endian.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_verbs.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/cm/addressing.h"
#include "rdma/nex/cm/manager.h"
#include "rdma/nex/debug.h"
#include "rdma/nex/library.h"
#include "rdma/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

constexpr std::uint8_t kHopLimit = 64;

// Commands and answers lie at addresses that the program names.
template <typename T>
bool Read(const char* in, std::size_t size, T* out) {
  // Programs of other versions know shorter or longer structures.
  *out = {};
  std::memcpy(out, in, std::min(size, sizeof *out));
  return size > 0;
}

template <typename T>
void Write(std::uint64_t address, const T& value, std::size_t size = sizeof(T)) {
  std::memcpy(reinterpret_cast<void*>(address), &value, std::min(size, sizeof value));
}

sockaddr_in6 AddressIn(const rdma_ucm_join_mcast& command) {
  sockaddr_in6 address;
  std::memcpy(&address, &command.addr, sizeof address);
  return address;
}

// The InfiniBand port space takes its kind from the program, the others are of one kind each.
CmService ServiceOf(const rdma_ucm_create_id& command) {
  if (command.ps == RDMA_PS_UDP || command.ps == RDMA_PS_IPOIB) return CmService::kDatagram;
  if (command.ps != RDMA_PS_IB) return CmService::kReliable;
  switch (command.qp_type) {
    case IBV_QPT_UC:
      return CmService::kUnreliable;
    case IBV_QPT_UD:
      return CmService::kDatagram;
    case IBV_QPT_XRC_SEND:
    case IBV_QPT_XRC_RECV:
      return CmService::kXrc;
    default:
      return CmService::kReliable;
  }
}

}  // namespace

ssize_t CmManager::Command(int fd, const void* buffer, std::size_t size) {
  rdma_ucm_cmd_hdr header;
  if (size < sizeof header) {
    errno = EINVAL;
    return -1;
  }
  std::memcpy(&header, buffer, sizeof header);
  if (header.in + sizeof header > size) {
    errno = EINVAL;
    return -1;
  }
  std::shared_ptr<File> file;
  {
    const std::lock_guard lock(mutex_);
    const auto found = files_.find(fd);
    if (found != files_.end()) file = found->second;
  }
  const char* in = static_cast<const char*>(buffer) + sizeof header;
  int error = EBADF;
  if (file) error = Execute(file, header.cmd, in, header.in, header.out);
  if (error == 0) return static_cast<ssize_t>(size);
  errno = error;
  return -1;
}

#define NEX_COMMAND(type, call)                                         \
  {                                                                     \
    type command;                                                       \
    Read(in, in_size, &command);                                        \
    const int error = IsOfKernel(*file, command.id) ? kOfKernel : call; \
    if (error != kOfKernel) return error;                               \
    return file->kernel.Pass(command_number, in, in_size, out_size);    \
  }

int CmManager::Execute(const std::shared_ptr<File>& file, std::uint32_t command_number,
                       const char* in, std::size_t in_size, std::size_t out_size) {
  if (command_number == RDMA_USER_CM_CMD_GET_EVENT) {
    // It may wait, so it does without the lock.
    rdma_ucm_get_event command;
    Read(in, in_size, &command);
    return GetEvent(file, command, out_size);
  }
  const std::lock_guard lock(mutex_);
  switch (command_number) {
    case RDMA_USER_CM_CMD_CREATE_ID: {
      rdma_ucm_create_id command;
      Read(in, in_size, &command);
      return CreateId(file, command);
    }
    case RDMA_USER_CM_CMD_DESTROY_ID:
      NEX_COMMAND(rdma_ucm_destroy_id, DestroyId(command))
    case RDMA_USER_CM_CMD_BIND_IP:
      NEX_COMMAND(rdma_ucm_bind_ip, BindIp(command))
    case RDMA_USER_CM_CMD_RESOLVE_IP:
      NEX_COMMAND(rdma_ucm_resolve_ip, ResolveIp(command))
    case RDMA_USER_CM_CMD_RESOLVE_ROUTE:
      NEX_COMMAND(rdma_ucm_resolve_route, ResolveRoute(command))
    case RDMA_USER_CM_CMD_QUERY_ROUTE:
      NEX_COMMAND(rdma_ucm_query, QueryRoute(command, out_size))
    case RDMA_USER_CM_CMD_CONNECT:
      NEX_COMMAND(rdma_ucm_connect, Connect(command))
    case RDMA_USER_CM_CMD_LISTEN:
      NEX_COMMAND(rdma_ucm_listen, Listen(command))
    case RDMA_USER_CM_CMD_ACCEPT:
      NEX_COMMAND(rdma_ucm_accept, Accept(command))
    case RDMA_USER_CM_CMD_REJECT:
      NEX_COMMAND(rdma_ucm_reject, Reject(command))
    case RDMA_USER_CM_CMD_DISCONNECT:
      NEX_COMMAND(rdma_ucm_disconnect, Disconnect(command))
    case RDMA_USER_CM_CMD_INIT_QP_ATTR:
      NEX_COMMAND(rdma_ucm_init_qp_attr, InitQpAttr(command, out_size))
    case RDMA_USER_CM_CMD_SET_OPTION:
      NEX_COMMAND(rdma_ucm_set_option, SetOption(command))
    case RDMA_USER_CM_CMD_NOTIFY:
      NEX_COMMAND(rdma_ucm_notify, 0)  // the only news is that a queue pair saw its first message
    case RDMA_USER_CM_CMD_JOIN_IP_MCAST:
      NEX_COMMAND(rdma_ucm_join_ip_mcast,
                  Join(command.id, command.uid, command.response, command.addr))
    case RDMA_USER_CM_CMD_JOIN_MCAST:
      NEX_COMMAND(rdma_ucm_join_mcast,
                  Join(command.id, command.uid, command.response, AddressIn(command)))
    case RDMA_USER_CM_CMD_LEAVE_MCAST: {
      rdma_ucm_destroy_id command;
      Read(in, in_size, &command);
      if (command.id >= kGroupHandles || !file->kernel.there()) return Leave(command);
      return file->kernel.Pass(command_number, in, in_size, out_size);
    }
    case RDMA_USER_CM_CMD_MIGRATE_ID: {
      rdma_ucm_migrate_id command;
      Read(in, in_size, &command);
      return IsOfKernel(*file, command.id) ? PassMigration(command, *file, out_size)
                                           : Migrate(command, file);
    }
    default:
      return EINVAL;  // addresses of the InfiniBand family, among others
  }
}

int CmManager::CreateId(const std::shared_ptr<File>& file, const rdma_ucm_create_id& command) {
  switch (command.ps) {
    case RDMA_PS_TCP:
    case RDMA_PS_UDP:
    case RDMA_PS_IPOIB:
    case RDMA_PS_IB:
      break;
    default:
      return EINVAL;
  }
  auto id = std::make_unique<Id>();
  if (ids_.size() >= kMaxIds) return ENOMEM;
  id->handle = file->kernel.Create(command);
  if (id->handle >= kOwnHandles) {
    file->kernel.Destroy(id->handle);
    id->handle = 0;
  }
  if (id->handle == 0) id->handle = NewHandle();
  id->uid = command.uid;
  id->file = file;
  id->space = command.ps;
  id->dialogue.SetService(ServiceOf(command));
  Write(command.response, rdma_ucm_create_id_resp{id->handle});
  ids_[id->handle] = std::move(id);
  return 0;
}

int CmManager::DestroyId(const rdma_ucm_destroy_id& command) {
  Id* id = Find(command.id);
  if (id == nullptr || !id->taken) return ENOENT;
  const std::uint32_t handle = id->handle;
  if (id->state() == State::kConnected) Send(*id, CmMessageType::kDisconnect, nullptr);
  if (id->dialogue.Reject()) Send(*id, CmMessageType::kReject, nullptr);
  // Requests that the program has not seen yet go with their listener.
  std::vector<Id*> waiting;
  if (id->state() == State::kListening) {
    for (const auto& [number, other] : ids_) {
      if (other->listener == handle && !other->taken) waiting.push_back(other.get());
    }
  }
  for (Id* other : waiting) {
    if (other->dialogue.Reject()) Send(*other, CmMessageType::kReject, nullptr);
    Withdraw(*other);
  }
  id->file->events.Remove([handle](const Event& event) { return event.owner == handle; });
  Write(command.response, rdma_ucm_destroy_id_resp{id->reported});
  CloseSockets(*id);
  if (handle < kOwnHandles) id->file->kernel.Destroy(handle);
  ids_.erase(handle);
  return 0;
}

int CmManager::QueryRoute(const rdma_ucm_query& command, std::size_t out_size) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  rdma_ucm_query_route_resp answer{};
  answer.src_addr = id->source;
  answer.dst_addr = id->destination;
  if (id->source.sin6_family != 0 && !IsAny(GidOf(id->source))) {
    answer.node_guid = NodeGuid(*Library::Get());
    answer.ibdev_index = kDeviceIndex;
    answer.port_num = 1;
  }
  if (id->destination.sin6_family != 0 && !id->awaits_route) {
    // One path, as RoCE has it: programs take the peer's GID from here.
    ib_user_path_rec& path = answer.ib_route[0];
    answer.num_paths = 1;
    std::memcpy(path.sgid, GidOf(id->source).data(), sizeof path.sgid);
    std::memcpy(path.dgid, GidOf(id->destination).data(), sizeof path.dgid);
    path.reversible = 1;
    path.numb_path = 1;
    path.pkey = htobe16(0xffff);
    path.hop_limit = kHopLimit;
    path.mtu = IBV_MTU_4096;
    path.mtu_selector = path.rate_selector = path.packet_life_time_selector = 2;  // exactly
    path.rate = IBV_RATE_100_GBPS;
  }
  Write(command.response, answer, out_size);
  return 0;
}

int CmManager::Connect(const rdma_ucm_connect& command) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  if (id->state() != State::kIdle || id->destination.sin6_family == 0 || id->awaits_route) {
    return EINVAL;
  }
  const bool behind_address = id->space != RDMA_PS_IB;
  if (command.conn_param.private_data_len + (behind_address ? kCmAddressBytes : 0) >
      MaxPrivateBytes(CmMessageType::kRequest, id->dialogue.service())) {
    return EINVAL;
  }
  if (const int error = BindForRoute(*id); error != 0) return error;
  if (id->has_places()) {
    UniqueFd fd;
    std::uint16_t port = 0;
    const int error = MakeSocket(SOCK_STREAM, true, GidOf(id->source), &port, &fd);
    if (error != 0) return error;
    id->sockets.push_back(std::move(fd));
  }
  id->own = command.conn_param;
  id->Agree(id->own);
  id->dialogue.Connect();
  id->asking.Start(Now());
  if (id->has_places()) {
    Ask(*id, true);
  } else {
    ConnectTo(*id, ntohs(id->destination.sin6_port));
  }
  WakeAt(id->asking.deadline());
  return 0;
}

int CmManager::Listen(const rdma_ucm_listen& command) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  if (id->state() != State::kIdle) return EINVAL;
  if (id->sockets.empty() && id->places.empty()) {
    std::uint16_t port = ntohs(id->source.sin6_port);
    if (id->source.sin6_family == 0) id->source.sin6_family = AF_INET;
    if (const int error = BindNumbers(*id, id->source, &port); error != 0) return error;
    SetPort(&id->source, port);
  }
  // As the kernel has it, more than this means this.
  constexpr int kMaxBacklog = 1024;
  const int backlog =
      command.backlog > 0 && command.backlog < kMaxBacklog ? command.backlog : kMaxBacklog;
  if (id->has_places()) {
    if (const int error = ListenAtPlaces(*id, backlog); error != 0) return error;
  } else {
    for (const UniqueFd& fd : id->sockets) {
      if (listen(fd.get(), backlog) != 0) return errno;
    }
  }
  id->backlog = static_cast<std::size_t>(backlog);
  id->dialogue.Listen();
  for (const UniqueFd& fd : id->sockets) Watch(*id, fd.get(), EPOLLIN);
  return 0;
}

int CmManager::Accept(const rdma_ucm_accept& command) {
  Id* id = Find(command.id);
  if (id == nullptr || !id->taken) return ENOENT;
  if (command.conn_param.valid == 0) {
    if (id->state() != State::kReplyReceived) return EINVAL;
    id->dialogue.Accept(Now());
    Send(*id, CmMessageType::kReadyToUse, nullptr);
    return 0;
  }
  if (command.conn_param.private_data_len >
      MaxPrivateBytes(CmMessageType::kReply, id->dialogue.service())) {
    return EINVAL;
  }
  id->uid = command.uid;
  if (id->state() == State::kDone) {
    // The peer has gone meanwhile; that is what the program learns next.
    Push(*id, kCmUnreachable, -ETIMEDOUT, nullptr);
    return 0;
  }
  if (id->state() != State::kRequestReceived) return EINVAL;
  id->own = command.conn_param;
  id->Agree(id->own);
  if (id->datagram() && id->own.qkey == 0) id->own.qkey = kCmQueueKey;
  id->dialogue.Accept(Now());
  Send(*id, CmMessageType::kReply, &id->own);
  return 0;
}

int CmManager::Reject(const rdma_ucm_reject& command) {
  Id* id = Find(command.id);
  if (id == nullptr || !id->taken) return ENOENT;
  if (command.private_data_len > MaxPrivateBytes(CmMessageType::kReject, id->dialogue.service())) {
    return EINVAL;
  }
  if (!id->dialogue.Reject()) return id->state() == State::kDone ? 0 : EINVAL;
  rdma_ucm_conn_param parameters{};
  parameters.private_data_len = command.private_data_len;
  std::memcpy(parameters.private_data, command.private_data, sizeof parameters.private_data);
  Send(*id, CmMessageType::kReject, &parameters);
  return 0;
}

int CmManager::Disconnect(const rdma_ucm_disconnect& command) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  if (id->dialogue.Disconnect()) {
    Send(*id, CmMessageType::kDisconnect, nullptr);
    if (!id->datagram()) OnDisconnected(*id);
    return 0;
  }
  return id->state() == State::kDone ? 0 : EINVAL;
}

int CmManager::InitQpAttr(const rdma_ucm_init_qp_attr& command, std::size_t out_size) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  ib_uverbs_qp_attr a{};
  a.qp_state = command.qp_state;
  a.cur_qp_state = command.qp_state;
  a.port_num = 1;
  a.path_mtu = IBV_MTU_4096;
  a.qp_attr_mask = IBV_QP_STATE;
  const bool active = !id->dialogue.accepting();
  // The connecting side of XRC only sends, the accepting side only receives.
  const bool xrc = id->dialogue.service() == CmService::kXrc;
  const bool reliable = xrc || id->dialogue.service() == CmService::kReliable;
  const bool requests = reliable && !(xrc && !active);
  const bool responds = reliable && !(xrc && active);
  switch (command.qp_state) {
    case IBV_QPS_INIT:
      a.qp_access_flags = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
                          IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_LOCAL_WRITE;
      a.qkey = kCmQueueKey;
      a.qp_attr_mask |=
          IBV_QP_PKEY_INDEX | IBV_QP_PORT | (id->datagram() ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS);
      break;
    case IBV_QPS_RTR:
      if (id->datagram()) break;
      a.ah_attr = PathTo(*id, GidOf(id->destination));
      a.dest_qp_num = id->peer.qp_num;
      a.max_dest_rd_atomic = id->responder_resources;
      a.min_rnr_timer = 12;
      a.qp_attr_mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
      if (responds) a.qp_attr_mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
      break;
    case IBV_QPS_RTS:
      a.qp_attr_mask |= IBV_QP_SQ_PSN;
      if (id->datagram()) break;
      a.timeout = id->ack_timeout;
      a.retry_cnt = active ? id->own.retry_count : id->peer.retry_count;
      a.rnr_retry = active ? id->own.rnr_retry_count : id->peer.rnr_retry_count;
      a.max_rd_atomic = id->initiator_depth;
      if (responds || requests) a.qp_attr_mask |= IBV_QP_TIMEOUT;
      if (requests) a.qp_attr_mask |= IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
      break;
    default:
      return EINVAL;
  }
  a.retry_cnt = std::min<std::uint8_t>(a.retry_cnt, 7);
  a.rnr_retry = std::min<std::uint8_t>(a.rnr_retry, 7);
  a.max_rd_atomic = std::min<std::uint8_t>(a.max_rd_atomic, kMaxReadsPerQp);
  a.max_dest_rd_atomic = std::min<std::uint8_t>(a.max_dest_rd_atomic, kMaxReadsPerQp);
  Write(command.response, a, out_size);
  return 0;
}

int CmManager::SetOption(const rdma_ucm_set_option& command) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  if (id->handle < kOwnHandles) {
    // In case that it turns out to be the kernel's.
    id->file->kernel.Pass(RDMA_USER_CM_CMD_SET_OPTION, &command, sizeof command, 0);
  }
  if (command.level == RDMA_OPTION_ID && command.optname == RDMA_OPTION_ID_ACK_TIMEOUT) {
    std::uint8_t timeout;
    if (command.optlen != sizeof timeout) return EINVAL;
    std::memcpy(&timeout, reinterpret_cast<const void*>(command.optval), sizeof timeout);
    if (timeout > 31) return EINVAL;
    id->ack_timeout = timeout;
    return 0;
  }
  if (command.level == RDMA_OPTION_ID && command.optname == RDMA_OPTION_ID_AFONLY) {
    int own_family_only;
    if (command.optlen != sizeof own_family_only || id->state() != State::kIdle) return EINVAL;
    std::memcpy(&own_family_only, reinterpret_cast<const void*>(command.optval),
                sizeof own_family_only);
    id->own_family_only = own_family_only != 0;
    // To be bound again when it listens.
    if (id->source.sin6_family == AF_INET6 && IsAny(GidOf(id->source))) CloseSockets(*id);
    return 0;
  }
  if (command.level == RDMA_OPTION_ID && command.optname == RDMA_OPTION_ID_REUSEADDR) {
    int shares;
    if (command.optlen != sizeof shares) return EINVAL;
    std::memcpy(&shares, reinterpret_cast<const void*>(command.optval), sizeof shares);
    // As the kernel has it: later it can be allowed, and not taken back.
    const bool unbound = id->state() == State::kIdle && id->source.sin6_family == 0;
    if (!unbound && (shares == 0 || id->state() == State::kListening)) return EINVAL;
    id->shares_number = shares != 0;
    for (const Place& place : id->places) AllowReuse(place.fd.get(), id->shares_number);
    return 0;
  }
  if (command.level == RDMA_OPTION_ID && command.optname < RDMA_OPTION_ID_ACK_TIMEOUT) return 0;
  // The program has found the path by itself.
  if (command.level == RDMA_OPTION_IB && command.optname == RDMA_OPTION_IB_PATH) {
    return ResolveRoute({.id = command.id, .timeout_ms = 0});
  }
  return ENOSYS;
}

int CmManager::Join(std::uint32_t handle, std::uint64_t uid, std::uint64_t response,
                    const sockaddr_in6& address) {
  Id* id = Find(handle);
  if (id == nullptr) return ENOENT;
  if (!id->datagram()) return EINVAL;
  if (address.sin6_family != AF_INET && address.sin6_family != AF_INET6) return EAFNOSUPPORT;
  Group group;
  group.handle = next_group_++;
  if (next_group_ == 0) next_group_ = kGroupHandles;
  group.uid = uid;
  id->groups.push_back(group);
  Write(response, rdma_ucm_create_id_resp{group.handle});
  Event event = MakeEvent(*id, kCmMulticastJoin, 0);
  event.body.uid = uid;
  event.body.id = group.handle;
  event.account = group.handle;  // its owner is the identifier
  event.body.param.ud.qp_num = kMulticastQpn;
  event.body.param.ud.qkey = kCmQueueKey;
  event.body.param.ud.ah_attr = PathTo(*id, GidOf(address));
  id->file->events.Push(event);
  return 0;
}

int CmManager::Leave(const rdma_ucm_destroy_id& command) {
  for (auto& [handle, id] : ids_) {
    for (std::size_t i = 0; i < id->groups.size(); ++i) {
      const Group group = id->groups[i];
      if (group.handle != command.id) continue;
      id->file->events.Remove([&](const Event& e) { return e.account == group.handle; });
      Write(command.response, rdma_ucm_destroy_id_resp{group.reported});
      id->groups.erase(id->groups.begin() + static_cast<std::ptrdiff_t>(i));
      return 0;
    }
  }
  return ENOENT;
}

int CmManager::Migrate(const rdma_ucm_migrate_id& command, const std::shared_ptr<File>& file) {
  Id* id = Find(command.id);
  if (id == nullptr) return ENOENT;
  std::vector<Event> moving;
  id->file->events.Remove([&](const Event& event) {
    if (event.owner != id->handle) return false;
    moving.push_back(event);
    return true;
  });
  if (id->handle < kOwnHandles) file->kernel.Take(id->handle, id->file->kernel);
  id->file = file;
  for (const auto& [handle, other] : ids_) {
    if (other->listener == id->handle && !other->taken) other->file = file;
  }
  for (const Event& event : moving) file->events.Push(event);
  Write(command.response, rdma_ucm_migrate_resp{id->reported});
  return 0;
}

int CmManager::GetEvent(const std::shared_ptr<File>& file, const rdma_ucm_get_event& command,
                        std::size_t out_size) {
  for (;;) {
    const std::uint32_t seen = file->events.announcements();
    {
      const std::lock_guard lock(mutex_);
      Event event;
      if (file->events.TryPop(&event)) {
        if (event.account == kKernelMarker) {
          const int error = GetKernelEvent(*file, command, out_size);
          if (error != EAGAIN) return error;
          continue;
        }
        Take(event);
        Write(command.response, event.body, out_size);
        return 0;
      }
    }
    if (!file->events.waits()) return EAGAIN;
    if (!file->events.AwaitAnnouncement(seen)) return EINTR;
  }
}

void CmManager::Take(const Event& event) {
  if (Id* id = Find(event.account); id != nullptr) {
    ++id->reported;
    if (event.body.event != kCmConnectRequest) return;
    if (Id* fresh = Find(event.body.id); fresh != nullptr) fresh->taken = true;
    if (id->untaken > 0) --id->untaken;
    Resume(*id);
    return;
  }
  for (auto& [handle, id] : ids_) {
    for (Group& group : id->groups) {
      if (group.handle == event.account) ++group.reported;
    }
  }
}

}  // namespace oxmem::nex
