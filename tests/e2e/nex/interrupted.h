#ifndef TESTS_E2E_NEX_INTERRUPTED_H_
#define TESTS_E2E_NEX_INTERRUPTED_H_

#include <errno.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <string>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

namespace oxmem::nex {

// The thread sanitizer keeps a signal back while its thread is in a system call that it does not
// know.
inline constexpr bool kSignalsComeAtOnce = !__has_feature(thread_sanitizer);

inline std::atomic<int> handled_signals{0};

// A call that waits for what never comes, in a thread that gets signals.
class Interrupted {
 public:
  // How the call ended after a few signals whose handler has these flags: -1 if it went on, and had
  // to be cancelled, else its errno.
  static int ErrorOf(int flags, std::function<bool()> wait) {
    struct sigaction action = {}, before;
    action.sa_handler = [](int) { handled_signals.fetch_add(1); };
    action.sa_flags = flags;
    EXPECT_EQ(0, sigaction(SIGUSR1, &action, &before));
    Interrupted call;
    call.wait_ = std::move(wait);
    pthread_t thread;
    EXPECT_EQ(0, pthread_create(&thread, nullptr, &Run, &call));
    for (int i = 0; i < 5 && call.Sleeps(); ++i) {
      const int seen = handled_signals.load();
      pthread_kill(thread, SIGUSR1);
      while (handled_signals.load() == seen) sched_yield();
    }
    call.Sleeps();
    pthread_cancel(thread);
    void* result = nullptr;
    EXPECT_EQ(0, pthread_join(thread, &result));
    EXPECT_EQ(0, sigaction(SIGUSR1, &before, nullptr));
    return result == PTHREAD_CANCELED ? -1 : call.error_;
  }

 private:
  static void* Run(void* self) {
    auto* call = static_cast<Interrupted*>(self);
    call->thread_.store(gettid());
    const bool came = call->wait_();
    call->error_ = came ? 0 : errno;
    call->ended_.store(true);
    return nullptr;
  }
  // Waits until the thread does. False: its call has ended.
  bool Sleeps() const {
    while (thread_.load() == 0) sched_yield();
    const std::string path = "/proc/self/task/" + std::to_string(thread_.load()) + "/stat";
    for (std::string text; !ended_.load(); sched_yield()) {
      std::getline(std::ifstream(path), text);
      if (text.find(") S ") != std::string::npos) return true;
    }
    return false;
  }

  std::function<bool()> wait_;
  std::atomic<pid_t> thread_{0};
  std::atomic<bool> ended_{false};
  int error_ = 0;
};

}  // namespace oxmem::nex

#endif  // TESTS_E2E_NEX_INTERRUPTED_H_
