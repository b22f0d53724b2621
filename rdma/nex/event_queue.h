#ifndef RDMA_NEX_EVENT_QUEUE_H_
#define RDMA_NEX_EVENT_QUEUE_H_

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <utility>

#include "rdma/nex/waiting.h"

namespace oxmem::nex {

// Events behind a real file descriptor: readable while there is one, blocking or not as the
// program has set the descriptor, usable with poll, select and epoll. Thread-safe.
template <typename Event>
class EventQueue {
 public:
  EventQueue() : fd_(eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC)) {}
  ~EventQueue() {
    if (fd_ >= 0) close(fd_);
  }
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;

  int fd() const { return fd_; }

  void Push(const Event& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
    if (waited_for_here == this) {
      ++unannounced_;
    } else {
      Announce(1);
    }
  }

  // While a thread moves bytes in order to wait for this queue, what it pushes itself need not be
  // announced through the descriptor: it looks here next.
  class Waiting {
   public:
    explicit Waiting(EventQueue* queue) { waited_for_here = queue; }
    ~Waiting() {
      EventQueue* queue = std::exchange(waited_for_here, nullptr);
      const std::lock_guard lock(queue->mutex_);
      // One is taken right away; others may be waited for with poll.
      if (queue->unannounced_ > 1) queue->Announce(std::exchange(queue->unannounced_, 1) - 1);
    }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
  };

  // False when there is none. `taken` is called before anybody who removes events can miss it.
  template <typename Taken>
  bool TryPop(Event* event, Taken taken) {
    const std::lock_guard lock(mutex_);
    if (events_.empty()) return false;
    *event = events_.front();
    events_.pop_front();
    CountOne();
    taken(*event);
    return true;
  }
  bool TryPop(Event* event) {
    return TryPop(event, [](const Event&) {});
  }

  bool waits() const { return (fcntl(fd_, F_GETFL) & O_NONBLOCK) == 0; }

  // Waits unless the descriptor is non-blocking, as read(2) would. False with errno set.
  template <typename Taken>
  bool Pop(Event* event, Taken taken) {
    for (;;) {
      const std::uint32_t seen = announcements();
      if (TryPop(event, taken)) return true;
      if (!waits()) {
        errno = EAGAIN;
        return false;
      }
      if (!AwaitAnnouncement(seen)) return false;
    }
  }

  bool Pop(Event* event) {
    return Pop(event, [](const Event&) {});
  }

  // In two steps: how often something was announced, and until it was again. False with EINTR.
  std::uint32_t announcements() const { return announcements_.load(); }
  bool AwaitAnnouncement(std::uint32_t seen) {
    awaited_.store(true);
    return WaitWhile(announcements_, seen);
  }

  // Takes back the events that nobody has read yet. Returns how many.
  template <typename Predicate>
  std::size_t Remove(Predicate predicate) {
    const std::lock_guard lock(mutex_);
    const std::size_t removed = std::erase_if(events_, predicate);
    for (std::size_t i = 0; i < removed; ++i) CountOne();
    return removed;
  }

 private:
  void Announce(std::uint64_t events) {
    [[maybe_unused]] const ssize_t written = write(fd_, &events, sizeof events);
    announcements_.fetch_add(1);
    if (awaited_.load()) WakeAll(announcements_);
  }

  // Under the mutex the descriptor counts exactly the announced events, so this never waits.
  void CountOne() {
    if (unannounced_ > 0) {
      --unannounced_;
      return;
    }
    std::uint64_t value;
    [[maybe_unused]] const ssize_t got = read(fd_, &value, sizeof value);
  }

  const int fd_;
  std::mutex mutex_;
  std::deque<Event> events_;
  std::size_t unannounced_ = 0;
  std::atomic<std::uint32_t> announcements_{0};
  std::atomic<bool> awaited_{false};  // somebody has waited for one
  static inline thread_local EventQueue* waited_for_here = nullptr;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_EVENT_QUEUE_H_
