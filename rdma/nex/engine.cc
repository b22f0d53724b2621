#include "rdma/nex/engine.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "rdma/nex/debug.h"
#include "rdma/nex/waiting.h"

namespace oxmem::nex {
namespace {

constexpr Duration kWatchTime = Duration::Milliseconds(100);
// How long the thread looks for more of a stream before it sleeps. Waking it takes as long.
constexpr Duration kStay = Duration::Microseconds(50);
constexpr int kMostInVain = 6;  // looks, as a power of two
// Until the timers are looked after.
constexpr Duration kLongestStay = Duration::Milliseconds(1);

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

Engine::Engine(const Config& config, RegionTable* regions, Neighbourhood* neighbours)
    : config_(config), regions_(regions), neighbours_(neighbours) {
  next_index_ = static_cast<std::uint32_t>(Random()) % kIndices;
}

bool Engine::ListenOn(std::uint32_t slot, int* error) {
  std::vector<UniqueFd> listeners;
  datagram_fds_.clear();
  for (const LocalAddress& address : config_.addresses) {
    UniqueFd fd(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) {
      *error = errno;
      return false;
    }
    const int one = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const sockaddr_in6 local =
        AddressOf(address.gid, static_cast<std::uint16_t>(config_.base_port + slot));
    if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof local) != 0 ||
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

int Engine::Spare() const { return fcntl(wake_.get(), F_DUPFD_CLOEXEC, 0); }

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
    *error = "no file descriptors left (see `ulimit -n`)";
    return EMFILE;
  }
  spare_.Reset(Spare());
  epoll_event event{};
  event.events = EPOLLIN;
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    event.data.u64 = Tag(static_cast<std::uint32_t>(Kind::kListener), static_cast<uint32_t>(i));
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listeners_[i].get(), &event);
    event.data.u64 = Tag(static_cast<std::uint32_t>(Kind::kDatagrams), static_cast<uint32_t>(i));
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, datagram_fds_[i].get(), &event);
  }
  // Signals are the program's business: none may arrive on this thread, but for its own faults.
  sigset_t all, before;
  sigfillset(&all);
  sigdelset(&all, SIGSEGV);
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int result = pthread_create(&thread_, nullptr, &Engine::ThreadMain, this);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (result != 0) {
    *error = "cannot start a thread";
    return result;
  }
  pthread_detach(thread_);
  // A peer that is greeted by a thread of the program would take this process for a dead one.
  thread_lives_.wait();
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
    for (Qp::Held& held : qp->held) held.fd.Reset();
  }
  for (auto& [fd, pending] : pending_) pending.fd.Reset();
  if (neighbours_->usable()) neighbours_->own()->BecomePrivate();
  listeners_.clear();
  datagram_fds_.clear();
  groups_.CloseInChild();
  epoll_.Reset();
  wake_.Reset();
  spare_.Reset();
}

void* Engine::ThreadMain(void* self) {
  pthread_setname_np(pthread_self(), "nex");
  static_cast<Engine*>(self)->Run();
  return nullptr;
}

void Engine::Run() {
  if (neighbours_->usable()) neighbours_->own()->LiveHere();
  thread_lives_.count_down();
  std::uint64_t seen_polls = polls_.load(), seen_waits = waits_.load();
  Instant watch_until;
  for (;;) {
    const std::uint64_t polls = polls_.load(std::memory_order_relaxed);
    const std::uint64_t waits = waits_.load(std::memory_order_relaxed);
    // One thread at a time can look after everything from within ibv_get_cq_event.
    const bool waited = waits != seen_waits && waiting_.load() <= 1;
    waits_seen_.store(waited);
    leased_.store((polls != seen_polls || waited) &&
                  (watch_until <= Instant() || Now() >= watch_until));
    seen_polls = polls;
    seen_waits = waits;
    // Whoever arms or delays after this sees the new mode and wakes the thread.
    if (leased_.load() && !waited && armed_.load() > 0) leased_.store(false);
    const bool leased = leased_.load();
    if (!leased) FlushDelayed();
    Sleep(WaitMs(Now(), leased), leased);
    if (leased) FlushDelayed();
    if (leased && !waited) {
      // Work that polling left lying about (a program that spins on its memory, queue pairs of
      // a queue that nobody polls) needs this thread at once for a while.
      if (ServeForgotten()) watch_until = Now() + kWatchTime;
    } else {
      Dispatch(Server::kThread, nullptr);
      // A program that waits for events looks after its streams itself.
      if (!leased) StayWithStreams();
    }
    RunTimers();
  }
}

bool Engine::ServeForgotten() {
  std::vector<Qp*> noticed;
  Dispatch(Server::kThread, &noticed);
  if (noticed.empty()) return false;
  // A program that has polled since the last look, or does so a moment later, looks after it
  // itself: it may just be sending something long.
  const auto polls_of = [](Qp* qp) {
    std::uint32_t polls = 0;
    for (const Cq* cq : {qp->send_cq.load(), qp->recv_cq.load()}) {
      if (cq != nullptr) polls += cq->polls.load(std::memory_order_relaxed);
    }
    return polls;
  };
  pollfd wake{wake_.get(), POLLIN, 0};
  const timespec moment{0, 50000};
  ppoll(&wake, 1, &moment, nullptr);
  bool moved = false;
  for (Qp* qp : noticed) {
    const std::uint32_t polls = polls_of(qp);
    const bool polled = std::exchange(qp->polls_seen, polls) != polls;
    moved |= ServeSignals(qp, Server::kThread) && !polled;
  }
  return moved;
}

void Engine::StayWithStreams() {
  const Instant begin = Now();
  Instant flushed = begin;
  for (Instant now = begin; now < begin + kLongestStay; now = Now()) {
    const auto streamed_at = Instant::FromNanoseconds(streamed_at_.load(std::memory_order_relaxed));
    if (now >= streamed_at + kStay) return;
    if (now >= flushed + kStay) {
      FlushDelayed();
      flushed = now;
    }
    sched_yield();
    Dispatch(Server::kThread, nullptr);
  }
}

void Engine::Sleep(int timeout_ms, bool leased) {
  pollfd fds[2] = {{wake_.get(), POLLIN, 0}, {epoll_.get(), POLLIN, 0}};
  poll(fds, leased ? 1 : 2, timeout_ms);
  if ((fds[0].revents & POLLIN) == 0) return;
  std::uint64_t ignored;
  [[maybe_unused]] const ssize_t got = read(wake_.get(), &ignored, sizeof ignored);
}

// What is waited for has often come before the processor could be put to sleep and woken. Where
// that is not so, most waits begin without a look around, which costs others the processor.
int Engine::LookAround(pollfd* fds, nfds_t count) {
  thread_local int in_vain = 0, left_out = 0;
  if (WaitsMayBeEnded()) return 0;
  const Instant begin = Now();
  if (left_out > 0) {
    --left_out;
    const int ready = poll(fds, count, -1);
    if (Now() < begin + kStay) in_vain = left_out = 0;
    return ready;
  }
  while (Now() < begin + kStay) {
    if (const int ready = poll(fds, count, 0); ready != 0) {
      in_vain = 0;
      return ready;
    }
    sched_yield();
  }
  in_vain = std::min(in_vain + 1, kMostInVain);
  left_out = (1 << in_vain) - 1;
  return 0;
}

bool Engine::WaitFor(int fd) {
  // More than one: the background thread has to do it for all.
  if (waiting_.fetch_add(1) > 0 && leased_.load()) Wake();
  // The thread may be cancelled in the meantime.
  const std::unique_ptr<std::atomic<int>, void (*)(std::atomic<int>*)> one_less(
      &waiting_, [](std::atomic<int>* waiting) { waiting->fetch_sub(1); });
  waits_.fetch_add(1);
  pollfd fds[2] = {{fd, POLLIN, 0}, {epoll_.get(), POLLIN, 0}};
  int ready = LookAround(fds, 2);
  if (ready == 0) ready = poll(fds, 2, -1);
  const bool good = ready >= 0;
  if (good && (fds[1].revents & POLLIN) != 0) Dispatch(Server::kProgram, nullptr);
  return good;
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

void Engine::OnArmed() {
  armed_.fetch_add(1);
  if (leased_.load() && !waits_seen_.load()) Wake();
}

void Engine::Dispatch(Server server, std::vector<Qp*>* noticed) {
  epoll_event events[32];
  const int count = epoll_wait(epoll_.get(), events, 32, 0);
  for (int i = 0; i < count; ++i) {
    const auto value = static_cast<std::uint32_t>(events[i].data.u64);
    switch (static_cast<Kind>(events[i].data.u64 >> 32)) {
      case Kind::kListener:
        AcceptAll(value);
        break;
      case Kind::kPending:
        ReadPending(static_cast<int>(value));
        break;
      case Kind::kDatagrams:
        ReceiveDatagrams(value);
        break;
      case Kind::kGroup:
        ReceiveFromGroup(static_cast<int>(value));
        break;
      case Kind::kQp:
        if (Qp* qp = qps_[value].load(); qp != nullptr) {
          qp->signals.fetch_or(events[i].events);
          if (noticed == nullptr) {
            ServeSignals(qp, server);
          } else {
            noticed->push_back(qp);
          }
        }
        break;
    }
  }
}

void Engine::Serve(Qp* qp) { ServeSignals(qp, Server::kThread); }

bool Engine::ServeSignals(Qp* qp, Server server) {
  bool moved = false;
  while (qp->signals.load() != 0) {
    // Whoever holds the lock looks at the signals after giving it up.
    const std::unique_lock lock(qp->mutex, std::try_to_lock);
    if (!lock) break;
    moved |= ServeLocked(qp, qp->signals.exchange(0), server);
  }
  return moved;
}

// Reading takes the socket's lock, which the system needs to make room in a full one and to fill it
// with what comes of a long message; so there it is asked first.
bool Engine::WorthALook(Qp& qp) {
  if (qp.stream.state() != Stream::State::kOpen) return true;
  if (qp.stream.wants_write()) return qp.stream.CheckFull();
  return qp.machine->payload_size() < Stream::kLongBytes || qp.stream.Readable();
}

void Engine::PollQp(Qp* qp) {
  {
    const std::unique_lock lock(qp->mutex, std::try_to_lock);
    if (!lock) return;
    std::uint32_t signals = EPOLLIN;
    if (qp->signals.load(std::memory_order_relaxed) != 0) signals |= qp->signals.exchange(0);
    if (signals != EPOLLIN || WorthALook(*qp)) ServeLocked(qp, signals, Server::kProgram);
  }
  if (qp->signals.load() != 0) ServeSignals(qp, Server::kProgram);
}

bool Engine::ServeLocked(Qp* qp, std::uint32_t signals, Server server) {
  if (!qp->alive || !qp->machine) return false;
  if (qp->stream.state() == Stream::State::kClosed) return false;
  const bool was_open = qp->stream.state() == Stream::State::kOpen;
  if ((signals & EPOLLOUT) != 0) qp->stream.OnWritable();
  const std::uint64_t before = qp->machine->bytes_in();
  const std::uint64_t all_before = before + qp->machine->bytes_out();
  if (!qp->stream.Read(*qp->machine, (signals & ~(EPOLLIN | EPOLLOUT)) != 0)) {
    StreamEnded(qp);
    return true;
  }
  if (!was_open && qp->stream.state() == Stream::State::kOpen) StreamOpened(qp);
  // A look in vain, as most are.
  if (was_open && qp->machine->bytes_in() == before && qp->machine->quiet()) return false;
  // A program that polls or waits gets its completions first: its next request carries the
  // acknowledgement. When there is nothing for it, the acknowledgement goes out now.
  // So does what is about to come of a long message: with it goes one for all before.
  const bool wait = server == Server::kProgram ? !qp->machine->completions().empty()
                                               : qp->machine->payload_left() >= Stream::kLongBytes;
  if (qp->stream.unfinished()) WatchAgain(qp);
  Pump(qp, !wait);
  if (wait && qp->machine->ack_due()) DelayAck(qp);
  if (qp->machine->payload_left() > 0 ||
      qp->machine->bytes_in() + qp->machine->bytes_out() - all_before >= Stream::kLongBytes) {
    streamed_at_.store(Now().nanoseconds(), std::memory_order_relaxed);
  }
  return qp->machine->bytes_in() != before;
}

void Engine::CountPoll(Cq* cq) {
  polls_.store(polls_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  cq->polls.store(cq->polls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void Engine::PollProgress(Cq* cq) {
  const std::uint32_t turn = cq->empty_polls.load(std::memory_order_relaxed) + 1;
  cq->empty_polls.store(turn, std::memory_order_relaxed);
  if (cq->attached.load(std::memory_order_relaxed) == 0 ||
      cq->elsewhere.load(std::memory_order_relaxed) != 0 || turn % 32 == 0) {
    Dispatch(Server::kProgram, nullptr);
    return;
  }
  for (auto& slot : cq->direct) {
    if (Qp* qp = slot.load(std::memory_order_acquire); qp != nullptr) PollQp(qp);
  }
}

void Engine::DelayAck(Qp* qp) {
  if (qp->listed.exchange(true)) return;
  {
    const std::lock_guard lock(delayed_mutex_);
    delayed_.push_back(qp);
    has_delayed_.store(true);
  }
  // The thread itself looks before it sleeps.
  if (!leased_.load() && pthread_equal(pthread_self(), thread_) == 0) Wake();
}

void Engine::FlushDelayed() {
  if (!has_delayed_.load()) return;
  std::vector<Qp*> delayed;
  {
    const std::lock_guard lock(delayed_mutex_);
    delayed.swap(delayed_);
    has_delayed_.store(false);
  }
  for (Qp* qp : delayed) {
    const QpLock lock(*this, qp);
    qp->listed = false;
    if (qp->alive && qp->machine && qp->machine->ack_due()) Pump(qp, true);
  }
}

void Engine::NotifyReceives(const std::vector<ReceiveQueue::Waiter>& waiters) {
  for (ReceiveQueue::Waiter waiter : waiters) {
    Qp* qp = static_cast<Qp*>(waiter);
    const QpLock lock(*this, qp);
    if (!qp->alive || !qp->machine) continue;
    qp->machine->OnReceiveAvailable();
    Pump(qp, true);
  }
}

}  // namespace oxmem::nex
