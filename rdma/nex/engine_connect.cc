// The engine's part for connections: listening, greeting, connecting, losing.
//
// One TCP connection serves a pair of queue pairs. The one with the smaller number connects (with
// equal numbers the one with the smaller address); a queue pair whose peer is itself has a stream
// to itself.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/debug.h"
#include "rdma/nex/engine.h"

namespace oxmem::nex {
namespace {

// Connections that have not greeted: so many at once, each so long. When there are more, one that
// had time enough to greet makes room.
constexpr std::size_t kMaxPending = 128;
constexpr Duration kGreetingTime = Duration::Seconds(10);
constexpr Duration kEnoughToGreet = Duration::Milliseconds(100);
// So many may have greeted a queue pair before it is ready.
constexpr std::size_t kMaxHeld = 16;
// What arrives within this of the last bytes still belongs to a queue pair that is destroyed, and
// the longest time that may take.
constexpr Duration kLastWords = Duration::Milliseconds(3);
constexpr Duration kLongestFarewell = Duration::Milliseconds(20);

Gid LocalGid(const Config& config, const ibv_ah_attr& path) {
  const std::size_t index = path.is_global != 0 ? path.grh.sgid_index : 0;
  return config.addresses[index < config.addresses.size() ? index : 0].gid;
}

Gid RemoteGid(const Config& config, const ibv_ah_attr& path) {
  Gid gid{};
  if (path.is_global != 0) {
    std::memcpy(gid.data(), path.grh.dgid.raw, gid.size());
    return gid;
  }
  return GidOfLid(config.addresses[0].gid, path.dlid);
}

// Who has closed its end, having said nothing more.
bool HasGone(const Qp::Held& held) {
  char next;
  return recv(held.fd.get(), &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

bool IsLocal(const Config& config, const Gid& gid) {
  return std::any_of(config.addresses.begin(), config.addresses.end(),
                     [&](const LocalAddress& address) { return address.gid == gid; });
}

}  // namespace

void Engine::OpenStream(Qp* qp) {
  const std::uint32_t own = qp->handle()->qp_num;
  const std::uint32_t peer = qp->attributes.dest_qp_num;
  const Gid local = LocalGid(config_, qp->attributes.ah_attr);
  const Gid remote = RemoteGid(config_, qp->attributes.ah_attr);
  const bool to_self = own == peer && IsLocal(config_, remote);
  qp->connects = !to_self && (own != peer ? own < peer : local < remote);
  qp->connect_tries = 0;
  qp->hurried = false;
  qp->connect_at = Instant::Never();
  if (to_self) {
    if (qp->stream.OpenToSelf()) {
      Watch(qp);
      qp->machine->Attach();
    }
  } else if (qp->connects) {
    TryConnect(qp);
  } else {
    // Now it is known which of them is the peer. A peer that is not among them tries again, and
    // one that is there twice has given the first up.
    for (auto held = qp->held.rbegin(); held != qp->held.rend(); ++held) {
      if (!HasGone(*held) && AdoptLocked(qp, std::move(held->fd), held->hello)) break;
    }
  }
  qp->held.clear();
  SetTimer(qp);
}

void Engine::TryConnect(Qp* qp) {
  const std::uint32_t peer = qp->attributes.dest_qp_num;
  const Gid remote = RemoteGid(config_, qp->attributes.ah_attr);
  const auto port = static_cast<std::uint16_t>(config_.base_port + (peer >> kSlotShift));
  Handshake handshake(qp->handle()->qp_num, peer, Random(), config_.secret);
  if (IsAddressOfThisHost(remote)) handshake.set_host(neighbours_->identity());
  if ((peer >> kSlotShift) < kSlots &&
      qp->stream.Connect(LocalGid(config_, qp->attributes.ah_attr), remote, port, handshake)) {
    NEX_DEBUG(1, "queue pair 0x%x connects to %s port %u, queue pair 0x%x", qp->handle()->qp_num,
              GidText(remote).c_str(), port, peer);
    Watch(qp);
    return;
  }
  StreamEnded(qp);
}

void Engine::Watch(Qp* qp) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u64 = std::uint64_t{static_cast<std::uint32_t>(Kind::kQp)} << 32 | qp->index;
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, qp->stream.fd(), &event);
  if (qp->stream.write_fd() != qp->stream.fd()) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, qp->stream.write_fd(), &event);
  }
}

// Makes the system report a stream again that has not been read to its end.
void Engine::WatchAgain(Qp* qp) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u64 = std::uint64_t{static_cast<std::uint32_t>(Kind::kQp)} << 32 | qp->index;
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, qp->stream.fd(), &event);
}

void Engine::StreamOpened(Qp* qp) {
  qp->stream.SetDeathTimeout(qp->machine->peer_timeout());
  OpenWay(qp);
}

// A request that has waited for kSilence, and nothing came meanwhile: the peer is slow, or its
// host is gone. TCP knows the difference only if it is told to ask. A queue pair without requests
// outlives a host that cannot be reached for a while, as on a device.
void Engine::LookAfterPeer(Qp* qp) {
  qp->look_at = Instant::Never();
  if (qp->stream.state() != Stream::State::kOpen) return;
  const bool silent = qp->machine->bytes_in() == qp->looked_bytes;
  // Only from RTS on the time is known.
  if (silent) qp->stream.SetDeathTimeout(qp->machine->peer_timeout());
  qp->stream.WatchHost(silent && !qp->machine->at_rest());
}

void Engine::StreamEnded(Qp* qp) {
  CloseWay(qp);
  qp->look_at = Instant::Never();
  qp->stream.Close(false);
  // A peer can greet, speak and go before anybody looks.
  if (qp->machine->attached()) {
    qp->machine->Detach(Now());
    NEX_DEBUG(1, "queue pair 0x%x %s", qp->handle()->qp_num,
              qp->machine->gone() ? "lost its peer" : "waits for its peer again");
  }
  if (!qp->machine->gone() && !qp->machine->failed()) AwaitPeer(qp);
  Deliver(qp);
  TellDrained(qp);
  SetTimer(qp);
}

// The peer's process may be just about to be ready, or strangers keep it busy; the waiting doubles
// up to 0.6 s. A peer that was there and went before anything was said may be just recycling its
// queue pair, or gone for good; with nothing to say to it, it is asked for less and less often.
void Engine::AwaitPeer(Qp* qp) {
  if (!qp->connects) return;
  const int slowest = qp->machine->met() && !qp->machine->has_requests() ? 11 : 7;
  const int tries = std::min(qp->connect_tries, slowest);
  qp->connect_at = Now() + Duration::Milliseconds(std::int64_t{5} << tries);
  qp->connect_tries = tries + 1;
  Hurry(qp);
}

// The first requests that wait do not wait for the next attempt as well. Once only, as a peer may
// come and go for ever.
void Engine::Hurry(Qp* qp) {
  if (qp->hurried || qp->connect_at.is_never() || !qp->machine->has_requests()) return;
  qp->hurried = true;
  qp->connect_tries = 0;
  qp->connect_at = Now();
}

// Before the first request: a stream that its peer has closed meanwhile would swallow it.
bool Engine::EndsUntouched(Qp* qp) {
  QueuePair& machine = *qp->machine;
  if (!machine.untouched() || !machine.wants_to_send()) return false;
  if (qp->stream.state() != Stream::State::kOpen || !qp->stream.Readable()) return false;
  if (!qp->stream.Read(machine, true)) return true;
  if (qp->stream.unfinished()) WatchAgain(qp);
  return false;
}

void Engine::CloseStream(Qp* qp) {
  // What has arrived is answered first: a device would have done so when it came, and a peer that
  // hears nothing takes its last requests for lost.
  bool open = qp->machine && qp->stream.state() == Stream::State::kOpen;
  const Instant latest = Now() + kLongestFarewell;
  while (open && Now() < latest) {
    open = qp->stream.Read(*qp->machine, true);
    if (open) qp->stream.Write(*qp->machine, true);
    // The same for what is on its way: programs leave with the peer's last words unread, and a
    // device takes its time to destroy a queue pair. One that was quiet for as long goes at once.
    if (!qp->stream.unfinished() && !(open && qp->stream.WaitForMore(kLastWords))) break;
  }
  CloseWay(qp);
  qp->stream.Close(true);
  if (!qp->alive) qp->held.clear();
  qp->connect_at = qp->look_at = Instant::Never();
  if (qp->own_receives) qp->own_receives->Forget(qp);
  if (qp->srq != nullptr) qp->srq->queue->Forget(qp);
  const std::lock_guard lock(timers_mutex_);
  if (!qp->timer.is_never()) timers_.erase({qp->timer, qp});
  qp->timer = Instant::Never();
}

bool Engine::MakeRoomLocked() {
  if (pending_.size() < kMaxPending) return true;
  const auto oldest = std::min_element(
      pending_.begin(), pending_.end(),
      [](const auto& a, const auto& b) { return a.second.deadline < b.second.deadline; });
  if (Now() + kGreetingTime < oldest->second.deadline + kEnoughToGreet) return false;
  pending_.erase(oldest);
  return true;
}

void Engine::AcceptAll(std::size_t listener) {
  constexpr int kFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  for (;;) {
    const std::lock_guard lock(pending_mutex_);
    if (!MakeRoomLocked()) return;  // the others wait with the system for a moment
    UniqueFd fd(accept4(listeners_[listener].get(), nullptr, nullptr, kFlags));
    if (!fd.valid()) {
      if (errno != EMFILE && errno != ENFILE) return;
      // Without descriptors a connection can only be refused, and it must be, or it would be
      // reported again and again.
      spare_.Reset();
      const UniqueFd refused(accept4(listeners_[listener].get(), nullptr, nullptr, kFlags));
      spare_.Reset(Spare());
      Complain(kNoDescriptors);
      return;
    }
    const int number = fd.get();
    pending_[number] = {std::move(fd), {}, 0, Now() + kGreetingTime};
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = std::uint64_t{static_cast<std::uint32_t>(Kind::kPending)} << 32 |
                     static_cast<std::uint32_t>(number);
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, number, &event);
  }
}

void Engine::ReadPending(int number) {
  UniqueFd fd;
  std::array<std::byte, kGreetingBytes> bytes;
  {
    const std::lock_guard lock(pending_mutex_);
    const auto found = pending_.find(number);
    if (found == pending_.end()) return;
    Pending& pending = found->second;
    const ssize_t got =
        recv(number, pending.bytes.data() + pending.have, kGreetingBytes - pending.have, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got > 0) pending.have += static_cast<std::size_t>(got);
    if (got > 0 && pending.have < kGreetingBytes) return;
    fd = std::move(pending.fd);
    bytes = pending.bytes;
    pending_.erase(found);
    if (got <= 0) return;
  }
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd.get(), nullptr);
  const auto hello = DecodeGreeting(std::span<const std::byte, kGreetingBytes>(bytes));
  if (hello && hello->type == GreetingType::kHello) AttachIncoming(std::move(fd), *hello);
}

void Engine::AttachIncoming(UniqueFd fd, const Greeting& hello) {
  Qp* qp = FindQp(hello.destination_qpn);
  if (qp == nullptr) return;
  const QpLock lock(*this, qp);
  if (!qp->alive || !qp->machine || qp->handle()->qp_num != hello.destination_qpn) return;
  switch (qp->state.load()) {
    case IBV_QPS_RESET:
    case IBV_QPS_INIT:
    case IBV_QPS_ERR:  // from which only RESET leads on
      if (qp->held.size() >= kMaxHeld) std::erase_if(qp->held, HasGone);
      if (qp->held.size() < kMaxHeld) qp->held.push_back({std::move(fd), hello});
      return;
    case IBV_QPS_RTR:
    case IBV_QPS_RTS:
    case IBV_QPS_SQD:
    case IBV_QPS_SQE:
      AdoptLocked(qp, std::move(fd), hello);
      return;
    default:
      return;
  }
}

bool Engine::AdoptLocked(Qp* qp, UniqueFd fd, const Greeting& hello) {
  sockaddr_in6 peer{};
  socklen_t size = sizeof peer;
  if (hello.source_qpn != qp->attributes.dest_qp_num ||
      getpeername(fd.get(), reinterpret_cast<sockaddr*>(&peer), &size) != 0 ||
      GidOf(peer) != RemoteGid(config_, qp->attributes.ah_attr)) {
    return false;
  }
  // The peer may have begun anew, and nobody has looked at the stream that it left.
  if (qp->stream.state() == Stream::State::kOpen && qp->machine->untouched()) {
    ServeLocked(qp, EPOLLIN | EPOLLRDHUP, Server::kThread);
  }
  // Who greeted and never confirmed must not keep the peer out.
  const bool unconfirmed =
      qp->stream.state() == Stream::State::kGreeting && qp->stream.handshake().accepting();
  if (qp->stream.state() != Stream::State::kClosed && !unconfirmed) return false;
  if (qp->machine->gone()) return false;
  Handshake handshake(qp->handle()->qp_num, qp->attributes.dest_qp_num, Random(), config_.secret);
  if (IsAddressOfThisHost(GidOf(peer))) handshake.set_host(neighbours_->identity());
  if (!qp->stream.Accept(std::move(fd), handshake, hello)) {
    NEX_DEBUG(1, "queue pair 0x%x refused a connection of queue pair 0x%x", qp->handle()->qp_num,
              hello.source_qpn);
    return false;
  }
  Watch(qp);
  return true;
}

}  // namespace oxmem::nex
