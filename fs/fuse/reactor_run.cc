// The half of the reactor that waits: for requests, for volumes, for deadlines.
#include <fcntl.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/fuse/reactor.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

constexpr std::size_t kLargestBurst = 32;
constexpr uint64_t kWake = ~uint64_t{0};
constexpr uint64_t kRequests = kWake - 1;
constexpr uint64_t kTimer = kWake - 2;  // other epoll numbers are those of volumes

// Whoever waits for us, or for this processor, may be the one who has work for us.
void LetOthersRun() { sched_yield(); }

}  // namespace

absl::Status Reactor::PrepareToWait() {
  // Volumes that never need a wake-up leave nothing to wait for but requests: then the reactor
  // waits in read itself and saves a system call for each.
  blocking_ = std::all_of(volumes_.begin(), volumes_.end(),
                          [](const auto& volume) { return volume->event_fd() < 0; });
  wake_fd_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_fd_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!wake_fd_.valid() || !epoll_fd_.valid()) return ErrnoStatus(errno, "epoll");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWake}};
  if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, wake_fd_.get(), &event) != 0) {
    return ErrnoStatus(errno, "epoll_ctl");
  }
  // Looked at by nobody: that it ends the wait is enough.
  event.data.u64 = kTimer;
  if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, timer_.fd(), &event) != 0) {
    return ErrnoStatus(errno, "epoll_ctl");
  }
  for (std::size_t i = 0; i < volumes_.size(); ++i) {
    if (volumes_[i]->event_fd() < 0) continue;
    event.data.u64 = i;
    if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, volumes_[i]->event_fd(), &event) != 0) {
      return ErrnoStatus(errno, absl::StrCat(volumes_[i]->name(), ": epoll_ctl"));
    }
  }
  return absl::OkStatus();
}

void Reactor::ExpectResent() {
  expects_resent_ = true;
  BeginAlong();  // nobody waits in read before all have taken theirs
}

bool Reactor::ReceiveSome() {
  bool received = false;
  for (std::size_t count = 0; count < burst_; ++count) {
    switch (Receive()) {
      case Received::kRequest:
        received = true;
        break;
      case Received::kNothing:
        requests_ready_ = false;
        burst_ = std::max<std::size_t>(count, 1);
        return received;
      case Received::kUnmounted:
        unmounted_ = true;
        return received;
    }
  }
  burst_ = std::min(burst_ * 2, kLargestBurst);
  return received;
}

bool Reactor::PollVolumes() {
  bool moved = false;
  for (auto& volume : volumes_) moved |= volume->Poll();
  return moved;
}

void Reactor::Run() {
  WatchNodes();
  if (expects_resent_) ReceiveResent();
  if (blocking_) RunBlocking();
  PassLead();
  if (!blocking_) RunPolling();
  if (leave_.load(std::memory_order_relaxed) && !unmounted_) HandOver();
  FinishWaiting();
}

void Reactor::RunBlocking() {
  Instant now = Now();
  Instant idle_since = now;
  while (!unmounted_ && !stop_.load(std::memory_order_relaxed)) {
    if (PeerPolls()) {
      StopWaitingInRead();
      return;
    }
    if (!leads_ && !along_) {
      lead_->Take();
      leads_ = true;
      now = Now();
      idle_since = now;
      continue;
    }
    LetReadWait(leads_ && lead_->alone() && now - idle_since >= spin_.length());
    switch (ReceiveTogether()) {
      case Received::kUnmounted:
        unmounted_ = true;
        return;
      case Received::kNothing:
        EndAlong();
        LetOthersRun();
        now = Now();
        continue;
      case Received::kRequest:
        break;
    }
    if (!last_was_long_) EndAlong();
    spin_.OnWork(received_at_ - idle_since);
    if (LeavesSomething()) {
      StopWaitingInRead();
      return;
    }
    now = Now();
    idle_since = now;
  }
}

// A volume may take its time without having an event of its own, as a delay does: then the next
// request must not wait for this one.
bool Reactor::LeavesSomething() {
  while (!waiting_.empty() && PollVolumes()) {
  }
  while (DispatchResumed()) {
  }
  return !waiting_.empty() || !delayed_.empty();
}

// All of them together, as who leads could be woken for nobody else's requests.
bool Reactor::PeerPolls() const {
  return std::any_of(peers_.begin(), peers_.end(),
                     [](const Reactor* peer) { return !peer->waits_in_read(); });
}

void Reactor::StopWaitingInRead() {
  BeginAlong();  // for ever: nobody else waits in read any more
  LetReadWait(false);
  blocking_ = false;
}

void Reactor::BeginAlong() {
  if (!std::exchange(along_, true)) lead_->BeginAlong();
}

void Reactor::EndAlong() {
  if (std::exchange(along_, false)) lead_->EndAlong();
}

void Reactor::PassLead() {
  if (leads_) lead_->Pass();
  leads_ = false;
}

void Reactor::LetReadWait(bool wait) {
  if (wait == read_waits_) return;
  read_waits_ = wait;
  const int flags = fcntl(fuse_fd_, F_GETFL) & ~O_NONBLOCK;
  OXMEM_CHECK(fcntl(fuse_fd_, F_SETFL, flags | (wait ? 0 : O_NONBLOCK)) == 0);
}

void Reactor::RunPolling() {
  Instant now = Now();
  Instant idle_since = now;
  bool idle = false;
  requests_ready_ = true;
  while (!unmounted_ && !stop_.load(std::memory_order_relaxed)) {
    bool moved = requests_ready_ && ReceiveSome();
    if (PollVolumes()) {
      moved = true;
      // Whoever got an answer may have another question.
      requests_ready_ = true;
    }
    moved |= DispatchResumed();
    if (!waiting_.empty()) ExpireOverdue(now);
    if (moved) {
      if (idle) spin_.OnWork(now - idle_since);
      idle = false;
      now = Now();
      continue;
    }
    if (!watched_.empty()) NoticeLostMemory();
    now = Now();
    if (!idle) idle_since = now;
    idle = true;
    if (now - idle_since < spin_.length()) {
      requests_ready_ = true;
      LetOthersRun();
      continue;
    }
    bool armed = true;
    for (auto& volume : volumes_) armed &= volume->Arm();
    if (armed) Sleep();
    now = Now();
  }
}

Instant Reactor::NextDeadline() const {
  Instant next = waiting_.empty() ? Instant::Never() : DeadlineOf(waiting_.front()->since);
  for (const auto& volume : volumes_) next = std::min(next, volume->next_deadline());
  return next;
}

void Reactor::Sleep(Instant latest) {
  WatchRequests(!blocking_ && slots_->available() && !leave_.load(std::memory_order_relaxed));
  timer_.Set(Now(), std::min(NextDeadline(), latest));
  std::array<epoll_event, 16> events;
  stats_.sleeps.Increment();
  const int count = epoll_wait(epoll_fd_.get(), events.data(), static_cast<int>(events.size()), -1);
  for (int i = 0; i < count; ++i) {
    const uint64_t what = events[static_cast<std::size_t>(i)].data.u64;
    if (what == kRequests) {
      requests_ready_ = true;
    } else if (what == kWake) {
      uint64_t ignored = 0;
      (void)!read(wake_fd_.get(), &ignored, sizeof ignored);
      TakeForwardedInterrupts();
    }
  }
}

void Reactor::WatchRequests(bool on) {
  if (on == requests_watched_) return;
  requests_watched_ = on;
  // Exclusive: one request is to wake one of the reactors.
  epoll_event event{.events = EPOLLIN | EPOLLEXCLUSIVE, .data = {.u64 = kRequests}};
  OXMEM_CHECK(epoll_ctl(epoll_fd_.get(), on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fuse_fd_, &event) ==
              0);
}

}  // namespace oxmem::fs
