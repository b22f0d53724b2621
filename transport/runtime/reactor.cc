#include "transport/runtime/reactor.h"

#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/check.h"
#include "transport/base/status.h"
#include "transport/runtime/one_time_event.h"

namespace oxmem::transport {
namespace {

constexpr std::size_t kTasksPerRound = 256;  // then the channels have their turn
constexpr uint32_t kRoundsPerLook = 32;      // at descriptors, while there is other work

// What is driven is looked at between arming and sleeping, so only what came since has to wake, and
// the kernel need not be told that it was read.
constexpr uint32_t kNews = EPOLLIN | EPOLLET;

void PauseCpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

absl::Status PlaceThread(std::thread& thread, const ReactorOptions& options) {
  pthread_setname_np(thread.native_handle(), options.name.substr(0, 15).c_str());
  if (options.cpu < 0) return absl::OkStatus();
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (options.cpu < CPU_SETSIZE) CPU_SET(static_cast<unsigned>(options.cpu), &cpus);
  const int error = pthread_setaffinity_np(thread.native_handle(), sizeof cpus, &cpus);
  if (error == 0) return absl::OkStatus();
  return ErrnoStatus(error, absl::StrCat("cannot run the I/O thread on CPU ", options.cpu));
}

class CallTask final : public ReactorTask {
 public:
  explicit CallTask(const std::function<void()>& function) : function_(function) {}
  void Run() override {
    function_();
    done_.Notify();
  }
  void Wait() { done_.Wait(); }

 private:
  const std::function<void()>& function_;
  OneTimeEvent done_;
};

}  // namespace

Reactor::Reactor(ReactorOptions options, LazyTimer timer)
    : options_(std::move(options)), timer_(std::move(timer)), queue_(options_.queue_capacity) {}

absl::StatusOr<std::unique_ptr<Reactor>> Reactor::Create(ReactorOptions options) {
  OXMEM_ASSIGN_OR_RETURN(LazyTimer timer, LazyTimer::Create());
  std::unique_ptr<Reactor> reactor(new Reactor(std::move(options), std::move(timer)));
  reactor->epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  reactor->wake_fd_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!reactor->epoll_.valid() || !reactor->wake_fd_.valid()) {
    return ErrnoStatus(errno, "cannot create the I/O thread's descriptors");
  }
  epoll_event event{.events = kNews, .data = {.ptr = nullptr}};
  epoll_event time{.events = EPOLLIN, .data = {.ptr = &reactor->timer_}};
  if (epoll_ctl(reactor->epoll_.get(), EPOLL_CTL_ADD, reactor->wake_fd_.get(), &event) != 0 ||
      epoll_ctl(reactor->epoll_.get(), EPOLL_CTL_ADD, reactor->timer_.fd(), &time) != 0) {
    return ErrnoStatus(errno, "cannot watch the I/O thread's descriptors");
  }
  reactor->thread_ = std::thread([raw = reactor.get()] { raw->Main(); });
  reactor->thread_id_ = reactor->thread_.get_id();
  OXMEM_RETURN_IF_ERROR(PlaceThread(reactor->thread_, reactor->options_));
  return reactor;
}

Reactor::~Reactor() {
  if (!thread_.joinable()) return;
  Stop();
  Wait();
}

void Reactor::Wait() {
  OXMEM_CHECK(!on_thread());
  if (thread_.joinable()) thread_.join();
}

bool Reactor::Post(ReactorTask& task) {
  // Counted, so that the thread knows when the last task is in before it ends.
  posters_.fetch_add(1);
  const bool accepted = accepting_.load() && queue_.Push(&task);
  if (accepted && sleeping_.load() && sleeping_.exchange(false)) {
    const uint64_t one = 1;
    OXMEM_CHECK(write(wake_fd_.get(), &one, sizeof one) == sizeof one);
  }
  posters_.fetch_sub(1);
  return accepted;
}

bool Reactor::Call(const std::function<void()>& function) {
  if (on_thread()) {
    function();
    return true;
  }
  CallTask task(function);
  while (!Post(task)) {
    if (!accepting_.load()) return false;
    std::this_thread::yield();
  }
  task.Wait();
  return true;
}

void Reactor::Stop() {
  stop_requested_.store(true);
  const uint64_t one = 1;
  // Fails only if the counter is at its end, which nobody lives to see.
  static_cast<void>(write(wake_fd_.get(), &one, sizeof one));
}

absl::Status Reactor::Add(std::unique_ptr<Pollable> pollable) {
  OXMEM_CHECK(on_thread());
  if (const int fd = pollable->event_fd(); fd >= 0) {
    epoll_event event{.events = kNews, .data = {.ptr = nullptr}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return ErrnoStatus(errno, "cannot watch a channel");
    }
  }
  if (closing_) pollable->Close();
  pollables_.push_back(std::move(pollable));
  changed_ = true;
  return absl::OkStatus();
}

void Reactor::Remove(Pollable* pollable) {
  OXMEM_CHECK(on_thread());
  const auto found = std::find_if(pollables_.begin(), pollables_.end(),
                                  [pollable](const auto& each) { return each.get() == pollable; });
  OXMEM_CHECK(found != pollables_.end());
  if (pollable->event_fd() >= 0) {
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pollable->event_fd(), nullptr);
  }
  pollables_.erase(found);
  changed_ = true;
}

absl::Status Reactor::Watch(int fd, uint32_t events, FdCallback callback) {
  OXMEM_CHECK(on_thread());
  auto watched = std::make_unique<Watched>();
  watched->fd = fd;
  watched->callback = std::move(callback);
  epoll_event event{.events = events, .data = {.ptr = watched.get()}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot watch descriptor ", fd));
  }
  watched_.push_back(std::move(watched));
  return absl::OkStatus();
}

void Reactor::Unwatch(int fd) {
  OXMEM_CHECK(on_thread());
  for (const auto& watched : watched_) {
    if (watched->fd != fd || watched->removed) continue;
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
    // Its events may be in hand already, so it stays until they have been gone through.
    watched->removed = true;
    ++removed_watches_;
  }
}

// The loop: tasks, then everything that is driven, descriptors now and then; after a time without
// work, sleep. Stopping, it goes round until everything has ended.
void Reactor::Main() {
  Instant idle_since = Instant::Never();
  uint32_t rounds_to_look = kRoundsPerLook;
  while (true) {
    stats_.rounds.Increment();
    if (!closing_ && stop_requested_.load(std::memory_order_relaxed)) BeginStop();
    bool worked = RunTasks();
    worked = PollAll() || worked;
    if (closing_ && AllFinished()) {
      if (NoMoreTasks()) break;
      continue;
    }
    if (worked) {
      idle_since = Instant::Never();
      if (!watched_.empty() && --rounds_to_look == 0) {
        rounds_to_look = kRoundsPerLook;
        LookAtDescriptors(/*sleep=*/false);
      }
      continue;
    }
    if (options_.spin > Duration()) {
      const Instant now = Now();
      if (idle_since.is_never()) idle_since = now;
      if (now - idle_since < options_.spin) {
        if (!watched_.empty() && --rounds_to_look == 0) {
          rounds_to_look = kRoundsPerLook;
          LookAtDescriptors(/*sleep=*/false);
        }
        PauseCpu();
        continue;
      }
    }
    SleepIfIdle();
    idle_since = Instant::Never();
  }
}

bool Reactor::RunTasks() {
  std::size_t count = 0;
  while (count < kTasksPerRound) {
    ReactorTask* const task = queue_.Pop();
    if (task == nullptr) break;
    ++count;
    task->Run();
  }
  stats_.tasks.Add(count);
  return count != 0;
}

bool Reactor::PollAll() {
  bool worked = false;
  changed_ = false;
  for (std::size_t i = 0; i < pollables_.size(); ++i) {
    worked = pollables_[i]->Poll() || worked;
    // One that is added or removed from within moves the others; the next round has them all.
    if (changed_) return true;
  }
  return worked;
}

void Reactor::SleepIfIdle() {
  sleeping_.store(true);
  // From here on a sender wakes us; what it sent before is seen now.
  bool idle = queue_.Empty() && !(stop_requested_.load() && !closing_);
  for (std::size_t i = 0; idle && i < pollables_.size(); ++i) idle = pollables_[i]->Arm();
  if (idle) {
    stats_.sleeps.Increment();
    timer_.Set(Now(), NextDeadline());
    LookAtDescriptors(/*sleep=*/true);
  }
  sleeping_.store(false);
}

void Reactor::LookAtDescriptors(bool sleep) {
  std::array<epoll_event, 64> events;
  const int count = epoll_wait(epoll_.get(), events.data(), events.size(), sleep ? -1 : 0);
  OXMEM_CHECK(count >= 0 || errno == EINTR);
  bool news = false;
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    if (event.data.ptr == &timer_) continue;
    news = true;
    auto* const watched = static_cast<Watched*>(event.data.ptr);
    if (watched != nullptr && !watched->removed) watched->callback(event.events);
  }
  if (sleep && !news) stats_.empty_wakeups.Increment();
  if (removed_watches_ != 0) {
    std::erase_if(watched_, [](const auto& watched) { return watched->removed; });
    removed_watches_ = 0;
  }
}

Instant Reactor::NextDeadline() const {
  Instant earliest = Instant::Never();
  for (const auto& pollable : pollables_) earliest = std::min(earliest, pollable->next_deadline());
  return earliest;
}

void Reactor::BeginStop() {
  closing_ = true;
  for (const auto& pollable : pollables_) pollable->Close();
}

bool Reactor::AllFinished() const {
  return std::all_of(pollables_.begin(), pollables_.end(),
                     [](const auto& pollable) { return pollable->finished(); });
}

// In this order: after the last sender that was let in has left, an empty queue stays empty.
bool Reactor::NoMoreTasks() {
  accepting_.store(false);
  return posters_.load() == 0 && queue_.Empty();
}

}  // namespace oxmem::transport
