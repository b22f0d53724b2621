#ifndef TRANSPORT_RUNTIME_ONE_TIME_EVENT_H_
#define TRANSPORT_RUNTIME_ONE_TIME_EVENT_H_

#include <condition_variable>
#include <mutex>

namespace oxmem::transport {

// Something that happens once, and that one other thread waits for. The waiter may destroy it as
// soon as Wait returns.
class OneTimeEvent {
 public:
  void Notify() {
    // Within the lock, so that the waiter cannot be gone before this is done with the condition.
    const std::lock_guard lock(mutex_);
    happened_ = true;
    condition_.notify_one();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    condition_.wait(lock, [this] { return happened_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool happened_ = false;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_RUNTIME_ONE_TIME_EVENT_H_
