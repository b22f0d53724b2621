// The connection manager's sockets: listening, connecting, reading, and what the program is told.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/cm/manager.h"
#include "rdma/nex/debug.h"
#include "rdma/nex/library.h"

namespace oxmem::nex {
namespace {

constexpr int kRejectNoListener = 8;  // InfiniBand 12.6.7.2: invalid service id
constexpr int kRejectConsumer = 28;   // the program said no
// The same of datagrams (InfiniBand 16.8.3).
constexpr int kNoService = 1;
constexpr int kServiceRejected = 2;
// 4.096 us times 2^19: what the kernel makes of the lifetime of a packet that it has for RoCE.
constexpr Duration kTimewait = Duration::Milliseconds(2147);
// Connections that have not made their request: so many at once, each so long. When there are more,
// one that had time enough makes room.
constexpr std::size_t kMaxSilent = 128;
constexpr Duration kRequestTime = Duration::Seconds(10);
constexpr Duration kEnoughToRequest = Duration::Milliseconds(100);
// So many are accepted before those that are there are heard.
constexpr int kAcceptShare = 16;

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
  // As this side sees them: what one side starts, the other answers.
  p.responder_resources = message.initiator_depth;
  p.initiator_depth = message.responder_resources;
  p.flow_control = message.flow_control;
  p.retry_count = message.retry_count;
  p.rnr_retry_count = message.rnr_retry_count;
  return p;
}

void FillPrivateData(const CmMessage& message, rdma_ucm_ud_param* ud) {
  ud->private_data_len = message.private_length;
  std::memcpy(ud->private_data, message.private_data.data(), sizeof ud->private_data);
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

int CmManager::RunTimers() {
  const Instant now = Now();
  DropSilent(now, false);
  Instant next = arrivals_.empty() ? Instant::Never() : arrivals_.front().when + kRequestTime;
  std::vector<std::uint32_t> late;
  for (auto& [handle, id] : ids_) {
    if (id->asking.deadline() <= now) OnAskingDeadline(*id, now);
    if (id->answers_at <= now) {
      id->answers_at = Instant::Never();
      for (const Place& place : id->places) Watch(*id, place.fd.get(), EPOLLIN);
    }
    if (id->resume_at <= now) Resume(*id);
    if (id->timewait_ends <= now) {
      id->timewait_ends = Instant::Never();
      Push(*id, kCmTimewaitExit, 0, nullptr);
    }
    if (id->dialogue.deadline() <= now) late.push_back(handle);
    next = std::min({next, id->asking.deadline(), id->answers_at, id->resume_at, id->timewait_ends,
                     id->dialogue.deadline()});
  }
  for (const std::uint32_t handle : late) {
    Id& id = *Find(handle);
    Tell(id, id.dialogue.OnDeadline(now), nullptr);
  }
  wakes_at_ = next;
  return PollTimeoutMs(now, next);
}

void CmManager::WakeAt(Instant when) {
  if (when >= wakes_at_) return;
  wakes_at_ = when;
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

// The program is told once more when nothing of the connection can be under way any longer.
void CmManager::OnDisconnected(Id& id) {
  Push(id, kCmDisconnected, 0, nullptr);
  id.timewait_ends = Now() + kTimewait;
  WakeAt(id.timewait_ends);
}

bool CmManager::DropSilent(Instant now, bool crowded) {
  std::erase_if(arrivals_, [this](const Arrival& arrival) {
    const Id* id = Find(arrival.handle);
    return id == nullptr || id->state() != State::kIdle;
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

void CmManager::Watch(const Id& id, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = Tag(id.handle, fd);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event);
  }
}

// Connections wait with the system meanwhile.
void CmManager::Pause(Id& listener, Instant until) {
  listener.paused = true;
  listener.resume_at = until;
  for (const UniqueFd& fd : listener.sockets) Watch(listener, fd.get(), 0);
}

void CmManager::Resume(Id& listener) {
  listener.resume_at = Instant::Never();
  if (!std::exchange(listener.paused, false)) return;
  for (const UniqueFd& fd : listener.sockets) Watch(listener, fd.get(), EPOLLIN);
}

void CmManager::Forget(int fd) const { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void CmManager::CloseSockets(Id& id) {
  for (const UniqueFd& fd : id.sockets) Forget(fd.get());
  for (const Place& place : id.places) Forget(place.fd.get());
  id.sockets.clear();
  id.places.clear();
}

void CmManager::OnReady(std::uint32_t handle, int fd) {
  Id* id = Find(handle);
  if (id == nullptr) return;
  if (const Place* place = PlaceOf(*id, fd); place != nullptr) {
    if (id->state() == State::kConnecting) {
      HearAnswers(*id, *place);
    } else {
      AnswerQuestions(*id, *place);
    }
    return;
  }
  if (id->sockets.empty()) return;
  if (id->state() == State::kListening) {
    OnAccept(*id, fd);
    return;
  }
  if (id->sockets[0].get() != fd) return;
  if (id->state() == State::kConnecting) {
    FinishConnect(*id);
    return;
  }
  const ssize_t got =
      recv(fd, id->bytes.data() + id->have, kCmMessageBytes - id->have, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    Tell(*id, id->dialogue.OnEnd(), nullptr);
    return;
  }
  id->have += static_cast<std::size_t>(got);
  if (id->have < kCmMessageBytes) return;
  id->have = 0;
  const auto message = DecodeCm(std::span<const std::byte, kCmMessageBytes>(id->bytes));
  if (message && Admits(*id, *message)) {
    Tell(*id, id->dialogue.OnMessage(*message, id->ends, Now()), &*message);
  } else {
    Tell(*id, id->dialogue.OnEnd(), nullptr);
  }
}

void CmManager::OnAccept(Id& listener, int listening) {
  for (int i = 0; i < kAcceptShare; ++i) {
    if (listener.untaken >= listener.backlog) {
      Pause(listener, Instant::Never());  // until the program takes one
      return;
    }
    const Instant now = Now();
    if (ids_.size() >= kMaxIds || (arrivals_.size() >= kMaxSilent && !DropSilent(now, true))) {
      Pause(listener, now + kEnoughToRequest);
      return;
    }
    UniqueFd fd(accept4(listening, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.valid()) {
      // Without descriptors or memory it would be reported again and again.
      if (errno != EAGAIN && errno != ECONNABORTED) Pause(listener, now + kEnoughToRequest);
      return;
    }
    auto id = std::make_unique<Id>();
    id->handle = NewHandle();
    id->file = listener.file;
    id->space = listener.space;
    id->dialogue.SetAccepting(listener.dialogue.service());
    id->listener = listener.handle;
    id->taken = false;
    const int number = fd.get();
    id->sockets.push_back(std::move(fd));
    FindEnds(*id);
    // The peer's number comes with its request.
    if (id->has_places()) id->ends.own_port = ntohs(listener.source.sin6_port);
    Watch(*id, number, EPOLLIN);
    arrivals_.push_back({now, id->handle});
    ids_[id->handle] = std::move(id);
  }
}

// The ports are those of the TCP connection where they are the numbers of the identifiers, too.
void CmManager::FindEnds(Id& id) {
  sockaddr_in6 own{}, peer{};
  socklen_t size = sizeof own;
  getsockname(id.sockets[0].get(), reinterpret_cast<sockaddr*>(&own), &size);
  size = sizeof peer;
  getpeername(id.sockets[0].get(), reinterpret_cast<sockaddr*>(&peer), &size);
  id.ends = {GidOf(own), GidOf(peer), ntohs(own.sin6_port), ntohs(peer.sin6_port)};
}

bool CmManager::Admits(Id& id, const CmMessage& message) const {
  if (id.dialogue.accepting() && id.state() == State::kIdle) {
    std::uint64_t ticket = 0;
    if (id.has_places()) {
      ticket = tickets_.For(id.ends.peer, message.source_port, id.ends.own, id.ends.own_port);
      id.ends.peer_port = message.source_port;
    }
    if (message.ticket != ticket) return false;
    id.ticket = ticket;
  }
  const SecretKey key(Library::Get()->config().secret);
  if (message.proof == ProofOf(message, id.ticket, key)) return true;
  NEX_DEBUG(1, "connection %u: the peer has another NEX_SECRET, or none", id.handle);
  return false;
}

void CmManager::ConnectTo(Id& id, std::uint16_t port) {
  id.asking.OnAnswered();
  const sockaddr_in6 to = AddressOf(GidOf(id.destination), port);
  const int fd = id.sockets[0].get();
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 && errno != EINPROGRESS) {
    OnConnectFailed(id, errno);
  } else {
    Watch(id, fd, EPOLLOUT);
  }
}

void CmManager::FinishConnect(Id& id) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(id.sockets[0].get(), SOL_SOCKET, SO_ERROR, &error, &size);
  FindEnds(id);
  // A port that connects to itself, which happens where nobody listens, has nobody to talk to.
  const bool alone = id.ends.own == id.ends.peer && id.ends.own_port == id.ends.peer_port;
  if (error == 0 && alone) error = ECONNREFUSED;
  if (error != 0) {
    OnConnectFailed(id, error);
    return;
  }
  if (id.has_places()) {
    id.ends.own_port = ntohs(id.source.sin6_port);
    id.ends.peer_port = ntohs(id.destination.sin6_port);
  }
  id.dialogue.OnConnected(Now());
  Watch(id, id.sockets[0].get(), EPOLLIN);
  Send(id, CmMessageType::kRequest, &id.own);
}

void CmManager::OnConnectFailed(Id& id, int error) {
  if (error != ECONNREFUSED) {
    GiveUp(id, error);
    return;
  }
  for (const UniqueFd& fd : id.sockets) Forget(fd.get());
  id.sockets.clear();
  OnRefused(id);
}

void CmManager::GiveUp(Id& id, int error) {
  CloseSockets(id);
  id.asking.Stop();
  id.dialogue.OnEnd();
  if (error != ECONNREFUSED) {
    Push(id, kCmUnreachable, -error, nullptr);
  } else if (id.datagram()) {
    Push(id, kCmUnreachable, kNoService, nullptr);
  } else {
    Push(id, kCmRejected, kRejectNoListener, nullptr);
  }
}

void CmManager::OnRequest(Id& id, const CmMessage& message) {
  Id* listener = Find(id.listener);
  if (listener == nullptr) {
    id.dialogue.OnEnd();
    return;
  }
  id.file = listener->file;
  id.peer = ParametersOf(message);
  id.Agree(id.peer);
  id.source = UserAddress(id.ends.own, id.ends.own_port);
  id.destination = UserAddress(id.ends.peer, id.ends.peer_port);
  ++listener->untaken;
  // The event is the listener's and brings the new identifier.
  Event event = MakeEvent(*listener, kCmConnectRequest, 0);
  event.body.id = id.handle;
  if (id.datagram()) {
    rdma_ucm_ud_param& ud = event.body.param.ud;
    ud.qp_num = message.qpn;
    ud.qkey = message.queue_key;
    ud.ah_attr = PathTo(id, message.source);
    FillPrivateData(message, &ud);
  } else {
    event.body.param.conn = id.peer;
  }
  listener->file->events.Push(event);
}

void CmManager::Withdraw(Id& id) {
  if (Id* listener = Find(id.listener); listener != nullptr) {
    const std::uint32_t handle = id.handle;
    const std::size_t removed = listener->file->events.Remove([handle](const Event& event) {
      return event.body.event == kCmConnectRequest && event.body.id == handle;
    });
    listener->untaken -= std::min(listener->untaken, removed);
    if (removed > 0) Resume(*listener);
  }
  CloseSockets(id);
  ids_.erase(id.handle);
}

void CmManager::Tell(Id& id, CmNews news, const CmMessage* message) {
  switch (news) {
    case CmNews::kNothing:
      break;
    case CmNews::kRequest:
      OnRequest(id, *message);
      break;
    case CmNews::kResponse:
      id.peer = ParametersOf(*message);
      id.Agree(id.peer);
      Push(id, kCmConnectResponse, 0, &id.peer);
      break;
    case CmNews::kEstablished:
      if (id.datagram()) {
        PushDatagram(id, kCmEstablished, PathTo(id, message->source), message->qpn,
                     message->queue_key, message);
      } else {
        Push(id, kCmEstablished, 0, nullptr);
      }
      break;
    case CmNews::kRejected:
      if (id.datagram()) {
        Event event = MakeEvent(id, kCmUnreachable, kServiceRejected);
        FillPrivateData(*message, &event.body.param.ud);
        id.file->events.Push(event);
      } else {
        const auto parameters = ParametersOf(*message);
        Push(id, kCmRejected, kRejectConsumer, &parameters);
      }
      break;
    case CmNews::kDisconnected:
      OnDisconnected(id);
      break;
    case CmNews::kUnreachable:
      Push(id, kCmUnreachable, -ETIMEDOUT, nullptr);
      break;
  }
  if (id.state() != State::kDone) return;
  if (id.taken) {
    CloseSockets(id);
  } else {
    Withdraw(id);
  }
}

}  // namespace oxmem::nex
