#ifndef RDMA_NEX_EVENT_QUEUE_H_
#define RDMA_NEX_EVENT_QUEUE_H_

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <deque>
#include <mutex>

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
    {
      const std::lock_guard lock(mutex_);
      events_.push_back(event);
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof one);
  }

  // Waits unless the descriptor is non-blocking. False with errno set.
  bool Pop(Event* event) {
    for (;;) {
      std::uint64_t value;
      if (read(fd_, &value, sizeof value) != sizeof value) return false;
      const std::lock_guard lock(mutex_);
      if (events_.empty()) continue;  // it was removed meanwhile
      *event = events_.front();
      events_.pop_front();
      return true;
    }
  }

  // Takes back the events that nobody has read yet. Returns how many.
  template <typename Predicate>
  std::size_t Remove(Predicate predicate) {
    const std::lock_guard lock(mutex_);
    const std::size_t removed = std::erase_if(events_, predicate);
    // Their counts are read off again, without waiting if a reader has been faster.
    for (std::size_t i = 0; i < removed; ++i) {
      pollfd readable{fd_, POLLIN, 0};
      std::uint64_t value;
      if (poll(&readable, 1, 0) != 1 || read(fd_, &value, sizeof value) < 0) break;
    }
    return removed;
  }

 private:
  const int fd_;
  std::mutex mutex_;
  std::deque<Event> events_;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_EVENT_QUEUE_H_
