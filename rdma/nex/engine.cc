#include "rdma/nex/engine.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/debug.h"

namespace oxmem::nex {
namespace {

constexpr Duration kWatchTime = Duration::Milliseconds(100);

std::uint64_t Tag(std::uint32_t kind, std::uint32_t value) {
  return std::uint64_t{kind} << 32 | value;
}

}  // namespace

std::uint64_t Engine::Random() {
  std::uint64_t value = 0;
  while (getrandom(&value, sizeof value, 0) != sizeof value) {
  }
  return value;
}

Engine::Engine(const Config& config, RegionTable* regions) : config_(config), regions_(regions) {
  next_index_ = static_cast<std::uint32_t>(Random()) % kIndices;
}

bool Engine::ListenOn(std::uint32_t slot, int* error) {
  std::vector<UniqueFd> listeners;
  datagram_fds_.clear();
  datagram_fds_.reserve(config_.addresses.size() + 2);
  for (const LocalAddress& address : config_.addresses) {
    UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int one = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const sockaddr_in6 local =
        AddressOf(address.gid, static_cast<std::uint16_t>(config_.base_port + slot));
    if (!fd.valid() || bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) ||
        listen(fd.get(), 1024) != 0) {
      *error = errno;
      return false;
    }
    listeners.push_back(std::move(fd));
    if (!ListenForDatagrams(address, slot, error)) return false;
  }
  listeners_ = std::move(listeners);
  slot_ = slot;
  return true;
}

int Engine::Start(std::string* error) {
  if (started_) return 0;
  int last = EADDRINUSE;
  for (std::uint32_t slot = 0; slot < kSlots && listeners_.empty(); ++slot) {
    if (ListenOn(slot, &last)) break;
    if (last != EADDRINUSE) {
      *error = "cannot listen on " + GidText(config_.addresses[0].gid) + " port " +
               std::to_string(config_.base_port + slot) + ": " + std::string(strerror(last));
      return last;
    }
  }
  if (listeners_.empty()) {
    *error = "all ports from " + std::to_string(config_.base_port) + " to " +
             std::to_string(config_.base_port + kSlots - 1) + " of " +
             GidText(config_.addresses[0].gid) + " are taken; another NEX_PORT may help";
    return EADDRINUSE;
  }
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  wake_.Reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!epoll_.valid() || !wake_.valid()) {
    *error = "no file descriptors left";
    return errno;
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = Tag(static_cast<std::uint32_t>(Kind::kWake), 0);
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event);
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    event.data.u64 = Tag(static_cast<std::uint32_t>(Kind::kListener), static_cast<uint32_t>(i));
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listeners_[i].get(), &event);
    event.data.u64 = Tag(static_cast<std::uint32_t>(Kind::kDatagrams), static_cast<uint32_t>(i));
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, datagram_fds_[i].get(), &event);
  }
  // Signals are the program's business: none may arrive on this thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int result = pthread_create(&thread_, nullptr, &Engine::ThreadMain, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (result != 0) {
    *error = "cannot start a thread";
    return result;
  }
  pthread_detach(thread_);
  started_ = true;
  NEX_DEBUG(1, "listening on %s port %u (slot %u)", GidText(config_.addresses[0].gid).c_str(),
            config_.base_port + slot_, slot_);
  return 0;
}

void Engine::AbandonInChild() {
  // Only this thread exists here, and locks may be held by threads that do not: none is taken.
  for (auto& slot : qps_) {
    Qp* qp = slot.load();
    if (qp == nullptr) continue;
    qp->alive = false;
    qp->stream.Close(false);
    qp->held.Reset();
  }
  for (auto& [fd, pending] : pending_) pending.fd.Reset();
  listeners_.clear();
  datagram_fds_.clear();
  epoll_.Reset();
  wake_.Reset();
}

void* Engine::ThreadMain(void* self) {
  pthread_setname_np(pthread_self(), "nex");
  static_cast<Engine*>(self)->Run();
  return nullptr;
}

void Engine::Run() {
  std::uint64_t seen = polls_.load();
  Instant watch_until;
  for (;;) {
    const std::uint64_t polls = polls_.load(std::memory_order_relaxed);
    leased_.store(polls != seen && (watch_until <= Instant() || Now() >= watch_until));
    seen = polls;
    // Whoever arms or delays after this sees the new mode and wakes the thread.
    if (leased_.load() && armed_.load() > 0) leased_.store(false);
    if (leased_.load()) {
      pollfd wake{wake_.get(), POLLIN, 0};
      poll(&wake, 1, WaitMs(Now(), true));
      FlushDelayed();
      // Work that polling left lying about (a program that spins on its memory, queue pairs of
      // a queue that nobody polls) needs this thread at once for a while.
      if (Dispatch(0, true)) watch_until = Now() + kWatchTime;
    } else {
      FlushDelayed();
      Dispatch(WaitMs(Now(), false), true);
    }
    RunTimers();
  }
}

int Engine::WaitMs(Instant now, bool leased) {
  const std::lock_guard lock(timers_mutex_);
  const int timer = timers_.empty() ? -1 : PollTimeoutMs(now, timers_.begin()->first);
  if (!leased) return timer;
  return timer < 0 ? kLeaseMs : std::min(timer, kLeaseMs);
}

void Engine::Wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
}

void Engine::ClearWake() {
  std::uint64_t ignored;
  [[maybe_unused]] const ssize_t got = read(wake_.get(), &ignored, sizeof ignored);
}

void Engine::OnArmed() {
  armed_.fetch_add(1);
  if (leased_.load()) Wake();
}

bool Engine::Dispatch(int timeout_ms, bool background) {
  epoll_event events[32];
  const int count = epoll_wait(epoll_.get(), events, 32, timeout_ms);
  bool moved = false;
  for (int i = 0; i < count; ++i) {
    const auto value = static_cast<std::uint32_t>(events[i].data.u64);
    switch (static_cast<Kind>(events[i].data.u64 >> 32)) {
      case Kind::kWake:
        // A wake-up is for the background thread; a polling thread must not take it away.
        if (background) ClearWake();
        break;
      case Kind::kListener:
        AcceptAll(value);
        break;
      case Kind::kPending:
        ReadPending(static_cast<int>(value));
        break;
      case Kind::kDatagrams:
        ReceiveDatagrams(value);
        break;
      case Kind::kQp:
        if (Qp* qp = qps_[value].load(); qp != nullptr) moved |= ProgressQp(qp, false);
        break;
    }
  }
  return moved;
}

bool Engine::ProgressQp(Qp* qp, bool from_poll) {
  // Whoever holds the lock is moving this queue pair already.
  const std::unique_lock lock(qp->mutex, std::try_to_lock);
  if (!lock || !qp->alive || !qp->machine) return false;
  if (qp->stream.state() == Stream::State::kClosed) return false;
  const bool was_open = qp->stream.state() == Stream::State::kOpen;
  const bool good = qp->stream.Read(*qp->machine, Now());
  // A program that polls gets its completions first: its next request carries the
  // acknowledgement. When there is nothing for it, the acknowledgement goes out now.
  const bool wait = from_poll && good && !qp->machine->completions().empty();
  if (!good) {
    StreamEnded(qp, was_open);
    return true;
  }
  Pump(qp, !wait);
  if (wait && qp->machine->ack_due()) DelayAck(qp);
  return true;
}

void Engine::PollProgress(Cq* cq) {
  polls_.store(polls_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  const int attached = cq->attached.load(std::memory_order_relaxed);
  if (attached == 0 || attached > Cq::kDirect || (++cq->empty_polls & 15) == 0) {
    Dispatch(0, false);
    return;
  }
  for (auto& slot : cq->direct) {
    if (Qp* qp = slot.load(std::memory_order_acquire); qp != nullptr) ProgressQp(qp, true);
  }
}

void Engine::DelayAck(Qp* qp) {
  if (qp->listed.exchange(true)) return;
  {
    const std::lock_guard lock(delayed_mutex_);
    delayed_.push_back(qp);
  }
  if (!leased_.load()) Wake();
}

void Engine::FlushDelayed() {
  std::vector<Qp*> delayed;
  {
    const std::lock_guard lock(delayed_mutex_);
    delayed.swap(delayed_);
  }
  for (Qp* qp : delayed) {
    const std::lock_guard lock(qp->mutex);
    qp->listed = false;
    if (qp->alive && qp->machine && qp->machine->ack_due()) Pump(qp, true);
  }
}

void Engine::NotifyReceives(const std::vector<ReceiveQueue::Waiter>& waiters) {
  for (ReceiveQueue::Waiter waiter : waiters) {
    Qp* qp = static_cast<Qp*>(waiter);
    const std::lock_guard lock(qp->mutex);
    if (!qp->alive || !qp->machine) continue;
    qp->machine->OnReceiveAvailable();
    Pump(qp, true);
  }
}

}  // namespace oxmem::nex
