#ifndef TRANSPORT_RUNTIME_REACTOR_H_
#define TRANSPORT_RUNTIME_REACTOR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/clock.h"
#include "transport/base/counter.h"
#include "transport/base/lazy_timer.h"
#include "transport/base/unique_fd.h"
#include "transport/runtime/bounded_queue.h"
#include "transport/runtime/pollable.h"

namespace oxmem::transport {

// Something to do on a reactor's thread. The poster owns it; it must live until Run, which may
// destroy it or post it again.
class ReactorTask {
 public:
  virtual void Run() = 0;

 protected:
  ~ReactorTask() = default;
};

struct ReactorOptions {
  std::string name = "oxmem-io";  // of the thread, at most 15 characters
  // How long the thread goes on looking for work after the last it found, before it sleeps. Waking
  // a sleeping thread costs the one who wakes it a system call and the request some microseconds
  // when the CPU is busy, tens of them when it is idle; looking costs a whole CPU. So the default
  // is not to look, and on a machine with a CPU to spare some tens of microseconds are well spent.
  Duration spin;
  int cpu = -1;  // the one the thread runs on; -1 for any
  std::size_t queue_capacity = 1024;
};

struct ReactorStats {
  Counter tasks;          // run
  Counter rounds;         // of the loop
  Counter sleeps;         // times it went to sleep
  Counter empty_wakeups;  // of these, ended without anything to do
};

// One I/O thread that owns what it drives: nothing that belongs to it is touched by another thread.
// The one way in for others is Post, a bounded queue with a wake-up.
class Reactor {
 public:
  // The thread is started, with nothing to do yet.
  static absl::StatusOr<std::unique_ptr<Reactor>> Create(ReactorOptions options);
  // Stops and waits; not on the reactor's thread.
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // Any thread. False if the queue is full (try again later) or the reactor stops (stopping() is
  // true then). What was accepted is run, whatever happens.
  bool Post(ReactorTask& task);
  bool stopping() const { return stop_requested_.load(std::memory_order_acquire); }

  // Runs a function on the reactor's thread and waits until it is over; for set-up, not for data.
  // False, and the function did not run, if the reactor stops. On the reactor's thread it is simply
  // called.
  bool Call(const std::function<void()>& function);

  // Any thread. Closes everything the reactor drives and drives it until it is finished; what is
  // posted until then is run. Wait returns when the thread is at its end; what it drove is
  // destroyed with the reactor.
  void Stop();
  void Wait();

  // On the reactor's thread (see Call), as all below.
  absl::Status Add(std::unique_ptr<Pollable> pollable);
  // Destroys it at once; what is under way in it is its own affair.
  void Remove(Pollable* pollable);

  // Calls back when the descriptor is readable (EPOLLIN) or what else `events` asks for, until
  // Unwatch, which comes before it is closed. Level-triggered: what is there and not consumed is
  // reported again.
  using FdCallback = std::function<void(uint32_t events)>;
  absl::Status Watch(int fd, uint32_t events, FdCallback callback);
  void Unwatch(int fd);

  bool on_thread() const { return std::this_thread::get_id() == thread_id_; }
  const ReactorStats& stats() const { return stats_; }

 private:
  struct Watched {
    int fd = -1;
    FdCallback callback;
    bool removed = false;
  };

  Reactor(ReactorOptions options, LazyTimer timer);

  void Main();
  bool RunTasks();
  bool PollAll();
  // Calls back for what is there; waits for it if `sleep`, until then or until the timer goes off.
  void LookAtDescriptors(bool sleep);
  void SleepIfIdle();
  Instant NextDeadline() const;
  void BeginStop();
  bool AllFinished() const;
  bool NoMoreTasks();

  const ReactorOptions options_;
  UniqueFd epoll_;
  UniqueFd wake_fd_;
  LazyTimer timer_;
  ReactorStats stats_;
  std::vector<std::unique_ptr<Pollable>> pollables_;
  std::vector<std::unique_ptr<Watched>> watched_;
  std::size_t removed_watches_ = 0;
  bool changed_ = false;  // pollables_, while it was being gone through
  bool closing_ = false;

  alignas(64) BoundedQueue<ReactorTask> queue_;
  alignas(64) std::atomic<bool> sleeping_{false};
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> accepting_{true};
  std::atomic<uint32_t> posters_{0};  // threads within Post
  std::thread thread_;
  std::thread::id thread_id_;  // set before anyone but Create knows the reactor
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_RUNTIME_REACTOR_H_
