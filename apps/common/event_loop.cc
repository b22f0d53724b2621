#include "apps/common/event_loop.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "transport/base/status.h"

namespace oxmem::apps {

absl::StatusOr<std::unique_ptr<EventLoop>> EventLoop::Create() {
  UniqueFd epoll_fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_fd.valid()) return ErrnoStatus(errno, "cannot create an epoll descriptor");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll_fd)));
}

absl::Status EventLoop::Watch(int fd, uint32_t events, FdCallback callback) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  const int operation = callbacks_.contains(fd) ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (epoll_ctl(epoll_fd_.get(), operation, fd, &event) != 0) {
    return ErrnoStatus(errno, "cannot watch a descriptor");
  }
  callbacks_[fd] = std::make_shared<FdCallback>(std::move(callback));
  return absl::OkStatus();
}

void EventLoop::Unwatch(int fd) {
  if (callbacks_.erase(fd) != 0) epoll_ctl(epoll_fd_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

EventLoop::TimerId EventLoop::Every(Duration period, TimerCallback callback) {
  const TimerId id{++last_timer_id_};
  timers_.push_back(
      {id, Now() + period, period, std::make_shared<TimerCallback>(std::move(callback))});
  return id;
}

EventLoop::TimerId EventLoop::After(Duration delay, TimerCallback callback) {
  const TimerId id = Every(delay, std::move(callback));
  timers_.back().period = Duration();
  return id;
}

void EventLoop::Cancel(TimerId id) {
  std::erase_if(timers_, [id](const Timer& timer) { return timer.id == id; });
}

Instant EventLoop::NextDue() const {
  Instant next = Instant::Never();
  for (const Timer& timer : timers_) next = std::min(next, timer.due);
  return next;
}

void EventLoop::RunTimers(Instant now) {
  // Callbacks may add and cancel timers: decide first, then look each one up again.
  std::vector<TimerId> due;
  for (const Timer& timer : timers_) {
    if (timer.due <= now) due.push_back(timer.id);
  }
  for (const TimerId id : due) {
    const auto timer =
        std::find_if(timers_.begin(), timers_.end(), [id](const Timer& t) { return t.id == id; });
    if (timer == timers_.end()) continue;
    const std::shared_ptr<TimerCallback> callback = timer->callback;
    if (timer->period == Duration()) {
      timers_.erase(timer);
    } else {
      // A late loop skips the beats it has missed.
      while (timer->due <= now) timer->due = timer->due + timer->period;
    }
    (*callback)();
  }
}

absl::Status EventLoop::Run() {
  std::array<epoll_event, 16> events;
  while (!stopped_) {
    const int count = epoll_wait(epoll_fd_.get(), events.data(), static_cast<int>(events.size()),
                                 PollTimeoutMs(Now(), NextDue()));
    if (count < 0 && errno != EINTR) return ErrnoStatus(errno, "cannot wait for events");
    for (int i = 0; i < count && !stopped_; ++i) {
      const auto found = callbacks_.find(events[static_cast<std::size_t>(i)].data.fd);
      if (found == callbacks_.end()) continue;  // unwatched by an earlier callback of this round
      const std::shared_ptr<FdCallback> callback = found->second;
      (*callback)(events[static_cast<std::size_t>(i)].events);
    }
    if (!stopped_) RunTimers(Now());
  }
  return absl::OkStatus();
}

}  // namespace oxmem::apps
