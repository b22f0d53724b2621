#ifndef APPS_COMMON_EVENT_LOOP_H_
#define APPS_COMMON_EVENT_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// What a program's main thread does while other threads move the data: signals, control socket,
// metrics, progress. Everything here is called and called back on the thread that runs the loop.
class EventLoop {
 public:
  using FdCallback = std::function<void(uint32_t events)>;  // EPOLLIN, EPOLLOUT, EPOLLHUP …
  using TimerCallback = std::function<void()>;
  enum class TimerId : uint64_t {};

  static absl::StatusOr<std::unique_ptr<EventLoop>> Create();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Calls back when the descriptor has one of the events. Watching it again replaces both. The
  // descriptor must be unwatched before it is closed.
  absl::Status Watch(int fd, uint32_t events, FdCallback callback);
  void Unwatch(int fd);

  // Calls back every period, or once after the delay; the first time when it has passed.
  TimerId Every(Duration period, TimerCallback callback);
  TimerId After(Duration delay, TimerCallback callback);
  void Cancel(TimerId id);

  // Returns after Stop was called from a callback.
  absl::Status Run();
  void Stop() { stopped_ = true; }

 private:
  struct Timer {
    TimerId id;
    Instant due;
    Duration period;  // zero: once
    std::shared_ptr<TimerCallback> callback;
  };

  explicit EventLoop(UniqueFd epoll_fd) : epoll_fd_(std::move(epoll_fd)) {}
  Instant NextDue() const;
  void RunTimers(Instant now);

  UniqueFd epoll_fd_;
  std::map<int, std::shared_ptr<FdCallback>> callbacks_;
  std::vector<Timer> timers_;
  uint64_t last_timer_id_ = 0;
  bool stopped_ = false;
};

}  // namespace oxmem::apps

#endif  // APPS_COMMON_EVENT_LOOP_H_
