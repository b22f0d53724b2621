#include "rdma/nex/cm/manager.h"

#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/debug.h"
#include "rdma/nex/library.h"

namespace oxmem::nex {
namespace {

std::atomic<CmManager*> current{nullptr};
constexpr int kRejectNoListener = 8;  // InfiniBand 12.6.7.2: invalid service id
// A request takes a moment on a fabric, and programs count on it: a listener that is just being
// made again still gets it.
constexpr int kRefusals = 10;
constexpr Duration kRefusalPause = Duration::Milliseconds(30);
constexpr int kRejectConsumer = 28;  // the program said no
// Connections that have not made their request: so many at once, each so long. When there are more,
// one that had time enough makes room.
constexpr std::size_t kMaxSilent = 128;
constexpr Duration kRequestTime = Duration::Seconds(10);
constexpr Duration kEnoughToRequest = Duration::Milliseconds(100);

std::uint64_t Tag(std::uint32_t handle, int fd) {
  return std::uint64_t{handle} << 32 | static_cast<std::uint32_t>(fd);
}

rdma_ucm_conn_param ParametersOf(const CmMessage& message) {
  rdma_ucm_conn_param p{};
  p.qp_num = message.qpn;
  p.qkey = message.queue_key;
  p.private_data_len = message.private_length;
  std::memcpy(p.private_data, message.private_data.data(), sizeof p.private_data);
  p.srq = message.srq;
  p.responder_resources = message.responder_resources;
  p.initiator_depth = message.initiator_depth;
  p.flow_control = message.flow_control;
  p.retry_count = message.retry_count;
  p.rnr_retry_count = message.rnr_retry_count;
  return p;
}

sockaddr_in6 UserAddress(const Gid& gid, std::uint16_t port) {
  sockaddr_in6 address{};
  if (gid[0] == 0 && gid[10] == 0xff && gid[11] == 0xff) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, &gid[12], 4);
    std::memcpy(&address, &v4, sizeof v4);
    return address;
  }
  return AddressOf(gid, port);
}

}  // namespace

CmManager* CmManager::Get() {
  CmManager* manager = current.load(std::memory_order_acquire);
  if (manager != nullptr) return manager;
  auto* fresh = new CmManager;
  if (!current.compare_exchange_strong(manager, fresh)) {
    delete fresh;
    return manager;
  }
  return fresh;
}

bool CmManager::Exists() { return current.load(std::memory_order_acquire) != nullptr; }

void CmManager::AbandonInChild() {
  CmManager* manager = current.exchange(nullptr);
  if (manager == nullptr) return;
  for (auto& [handle, id] : manager->ids_) id->sockets.clear();
  manager->epoll_.Reset();
}

bool CmManager::Owns(int fd) const {
  return fd >= 0 && fd < kFdLimit && own_fds_[static_cast<std::size_t>(fd)].load();
}

int CmManager::Open(int flags) {
  Library* library = Library::Get();
  if (library == nullptr) return -1;
  const std::lock_guard lock(mutex_);
  if (const int error = Start(); error != 0) {
    errno = error;
    return -1;
  }
  auto file = std::make_shared<File>();
  const int fd = file->events.fd();
  if (fd < 0 || fd >= kFdLimit) {
    errno = EMFILE;
    return -1;
  }
  if ((flags & O_NONBLOCK) != 0) fcntl(fd, F_SETFL, O_NONBLOCK);
  files_[fd] = std::move(file);
  own_fds_[static_cast<std::size_t>(fd)] = true;
  return fd;
}

void CmManager::Close(int fd) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(fd);
  if (found == files_.end()) return;
  // As in the kernel, closing the file destroys the identifiers made through it. The last owner
  // of the file closes the descriptor.
  std::erase_if(ids_, [&](const auto& entry) { return entry.second->file == found->second; });
  own_fds_[static_cast<std::size_t>(fd)] = false;
  files_.erase(found);
}

int CmManager::Start() {
  if (epoll_.valid()) return 0;
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return errno;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int result = pthread_create(&thread, nullptr, &CmManager::ThreadMain, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (result == 0) pthread_detach(thread);
  return result;
}

void* CmManager::ThreadMain(void* self) {
  pthread_setname_np(pthread_self(), "nex-cm");
  static_cast<CmManager*>(self)->Run();
  return nullptr;
}

void CmManager::Run() {
  int wait_ms = -1;
  for (;;) {
    epoll_event events[32];
    const int count = epoll_wait(epoll_.get(), events, 32, wait_ms);
    const std::lock_guard lock(mutex_);
    for (int i = 0; i < count; ++i) {
      OnReady(static_cast<std::uint32_t>(events[i].data.u64 >> 32),
              static_cast<int>(events[i].data.u64 & 0xffffffff));
    }
    wait_ms = RetryRefused();
  }
}

int CmManager::RetryRefused() {
  const Instant now = Now();
  DropSilent(now, false);
  Instant next = arrivals_.empty() ? Instant::Never() : arrivals_.front().when + kRequestTime;
  for (auto& [handle, id] : ids_) {
    if (id->retry_at <= now) {
      id->retry_at = Instant::Never();
      std::uint16_t port = ntohs(id->source.sin6_port);
      if (BindSocket(*id, GidOf(id->source), &port) == 0) StartConnect(*id);
    }
    next = std::min(next, id->retry_at);
  }
  return PollTimeoutMs(now, next);
}

bool CmManager::DropSilent(Instant now, bool crowded) {
  std::erase_if(arrivals_, [this](const Arrival& arrival) {
    const Id* id = Find(arrival.handle);
    return id == nullptr || id->state != State::kIdle;
  });
  bool dropped = false;
  while (!arrivals_.empty()) {
    const Instant when = arrivals_.front().when;
    const bool makes_room = crowded && !dropped && now >= when + kEnoughToRequest;
    if (now < when + kRequestTime && !makes_room) break;
    CloseSockets(*Find(arrivals_.front().handle));
    ids_.erase(arrivals_.front().handle);
    arrivals_.pop_front();
    dropped = true;
  }
  return dropped || arrivals_.size() < kMaxSilent;
}

CmManager::Id* CmManager::Find(std::uint32_t handle) {
  const auto found = ids_.find(handle);
  return found == ids_.end() ? nullptr : found->second.get();
}

void CmManager::Watch(const Id& id, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = Tag(id.handle, fd);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
  }
}

void CmManager::CloseSockets(Id& id) {
  for (const UniqueFd& fd : id.sockets) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), nullptr);
  id.sockets.clear();
}

CmManager::Event CmManager::MakeEvent(const Id& id, std::uint32_t type, int status) const {
  Event event;
  event.body.uid = id.uid;
  event.body.id = id.handle;
  event.body.event = type;
  event.body.status = static_cast<std::uint32_t>(status);
  event.account = id.handle;
  return event;
}

void CmManager::Push(Id& id, std::uint32_t type, int status,
                     const rdma_ucm_conn_param* parameters) {
  Event event = MakeEvent(id, type, status);
  if (parameters != nullptr) event.body.param.conn = *parameters;
  NEX_DEBUG(1, "connection %u: event %u, status %d", id.handle, type, status);
  id.file->events.Push(event);
}

void CmManager::PushDatagram(Id& id, std::uint32_t type, const ib_uverbs_ah_attr& path,
                             std::uint32_t qpn, std::uint32_t qkey, const CmMessage* message) {
  Event event = MakeEvent(id, type, 0);
  rdma_ucm_ud_param& ud = event.body.param.ud;
  ud.qp_num = qpn;
  ud.qkey = qkey;
  ud.ah_attr = path;
  if (message != nullptr) {
    ud.private_data_len = message->private_length;
    std::memcpy(ud.private_data, message->private_data.data(), sizeof ud.private_data);
  }
  id.file->events.Push(event);
}

ib_uverbs_ah_attr CmManager::PathTo(const Id& id, const Gid& gid) const {
  const Config& config = Library::Get()->config();
  ib_uverbs_ah_attr path{};
  path.is_global = 1;
  path.port_num = 1;
  path.grh.hop_limit = 64;
  std::memcpy(path.grh.dgid, gid.data(), gid.size());
  const Gid own = GidOf(id.source);
  for (std::size_t i = 0; i < config.addresses.size(); ++i) {
    if (config.addresses[i].gid == own) path.grh.sgid_index = static_cast<std::uint8_t>(i);
  }
  return path;
}

void CmManager::Send(Id& id, CmMessageType type, const rdma_ucm_conn_param* parameters) {
  if (id.sockets.empty()) return;
  CmMessage message;
  message.type = type;
  message.service = id.service;
  message.source = GidOf(id.source);
  message.destination = GidOf(id.destination);
  message.source_port = ntohs(id.source.sin6_port);
  message.destination_port = ntohs(id.destination.sin6_port);
  if (parameters != nullptr) {
    message.qpn = parameters->qp_num & 0xffffff;
    message.queue_key = parameters->qkey;
    message.srq = parameters->srq;
    message.responder_resources = parameters->responder_resources;
    message.initiator_depth = parameters->initiator_depth;
    message.flow_control = parameters->flow_control;
    message.retry_count = parameters->retry_count;
    message.rnr_retry_count = parameters->rnr_retry_count;
    message.private_length = parameters->private_data_len;
    std::memcpy(message.private_data.data(), parameters->private_data,
                sizeof parameters->private_data);
  }
  std::array<std::byte, kCmMessageBytes> bytes;
  EncodeCm(message, bytes);
  // A handful of small messages a connection always fits into the socket's buffer.
  [[maybe_unused]] const ssize_t sent =
      send(id.sockets[0].get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void CmManager::OnReady(std::uint32_t handle, int fd) {
  Id* id = Find(handle);
  if (id == nullptr || id->sockets.empty()) return;
  if (id->state == State::kListening) {
    OnAccept(*id, fd);
    return;
  }
  if (id->sockets[0].get() != fd) return;
  if (id->state == State::kConnecting) {
    FinishConnect(*id);
    return;
  }
  const ssize_t got =
      recv(fd, id->bytes.data() + id->have, kCmMessageBytes - id->have, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    OnClosed(*id);
    return;
  }
  id->have += static_cast<std::size_t>(got);
  if (id->have < kCmMessageBytes) return;
  id->have = 0;
  const auto message = DecodeCm(std::span<const std::byte, kCmMessageBytes>(id->bytes));
  if (message) {
    OnMessage(*id, *message);
  } else {
    OnClosed(*id);
  }
}

void CmManager::OnAccept(Id& listener, int listening) {
  constexpr std::size_t kMaxIds = 65536;
  for (;;) {
    // The others wait with the system for a moment.
    if (arrivals_.size() >= kMaxSilent && !DropSilent(Now(), true)) return;
    UniqueFd fd(accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.valid()) return;
    if (ids_.size() >= kMaxIds) continue;
    auto id = std::make_unique<Id>();
    id->handle = next_handle_++;
    id->file = listener.file;
    id->service = listener.service;
    id->listener = listener.handle;
    const int number = fd.get();
    id->sockets.push_back(std::move(fd));
    Watch(*id, number, EPOLLIN);
    arrivals_.push_back({Now(), id->handle});
    ids_[id->handle] = std::move(id);
  }
}

void CmManager::FinishConnect(Id& id) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(id.sockets[0].get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    CloseSockets(id);
    const bool refused = error == ECONNREFUSED;
    if (refused && ++id.refusals <= kRefusals) {
      id.retry_at = Now() + kRefusalPause;
      return;
    }
    id.state = State::kDone;
    Push(id, refused ? kCmRejected : kCmUnreachable, refused ? kRejectNoListener : -error, nullptr);
    return;
  }
  id.state = State::kRequestSent;
  Watch(id, id.sockets[0].get(), EPOLLIN);
  Send(id, CmMessageType::kRequest, &id.own);
}

void CmManager::OnRequest(Id& id, const CmMessage& message) {
  Id* listener = Find(id.listener);
  if (listener == nullptr || (message.service == CmService::kDatagram) != id.datagram()) {
    OnClosed(id);
    return;
  }
  id.service = message.service;
  id.state = State::kRequestReceived;
  id.peer = ParametersOf(message);
  id.source = UserAddress(message.destination, message.destination_port);
  id.destination = UserAddress(message.source, message.source_port);
  // The event is the listener's and brings the new identifier.
  Event event = MakeEvent(*listener, kCmConnectRequest, 0);
  event.body.id = id.handle;
  if (id.datagram()) {
    rdma_ucm_ud_param& ud = event.body.param.ud;
    ud.qp_num = message.qpn;
    ud.qkey = message.queue_key;
    ud.ah_attr = PathTo(id, message.source);
    ud.private_data_len = message.private_length;
    std::memcpy(ud.private_data, message.private_data.data(), sizeof ud.private_data);
  } else {
    event.body.param.conn = id.peer;
  }
  listener->file->events.Push(event);
}

void CmManager::OnMessage(Id& id, const CmMessage& message) {
  switch (message.type) {
    case CmMessageType::kRequest:
      if (id.listener != 0 && id.state == State::kIdle) OnRequest(id, message);
      return;
    case CmMessageType::kReply:
      if (id.state != State::kRequestSent) return;
      id.peer = ParametersOf(message);
      if (id.datagram()) {
        id.state = State::kConnected;
        PushDatagram(id, kCmEstablished, PathTo(id, message.source), message.qpn, message.queue_key,
                     &message);
      } else {
        id.state = State::kReplyReceived;
        Push(id, kCmConnectResponse, 0, &id.peer);
      }
      return;
    case CmMessageType::kReadyToUse:
      if (id.state != State::kReplySent) return;
      id.state = State::kConnected;
      Push(id, kCmEstablished, 0, nullptr);
      return;
    case CmMessageType::kReject: {
      if (id.state == State::kConnected || id.state == State::kDone) return;
      id.state = State::kDone;
      const auto parameters = ParametersOf(message);
      if (id.datagram()) {
        Event event = MakeEvent(id, kCmUnreachable, kRejectConsumer);
        id.file->events.Push(event);
      } else {
        Push(id, kCmRejected, kRejectConsumer, &parameters);
      }
      return;
    }
    case CmMessageType::kDisconnect:
      OnClosed(id);
      return;
  }
}

void CmManager::OnClosed(Id& id) {
  CloseSockets(id);
  const State before = std::exchange(id.state, State::kDone);
  switch (before) {
    case State::kConnected:
      if (!id.datagram()) Push(id, kCmDisconnected, 0, nullptr);
      return;
    case State::kRequestSent:
    case State::kReplySent:
    case State::kReplyReceived:
      Push(id, kCmUnreachable, -ETIMEDOUT, nullptr);
      return;
    case State::kIdle:
      // A connection that never made a request; nobody knows of it.
      if (id.listener != 0) ids_.erase(id.handle);
      return;
    default:
      return;
  }
}

}  // namespace oxmem::nex
