#include "rdma/nex/waiting.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace oxmem::nex {

// Without a time to end at, the kernel restarts this as it does a read. Nothing here has to be
// cleaned up when the thread is cancelled, at whatever instruction.
[[gnu::noinline]] bool WaitWhile(const std::atomic<std::uint32_t>& word, std::uint32_t seen) {
  int before;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &before);
  const long result = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
  pthread_setcanceltype(before, &before);
  return result == 0 || errno != EINTR;
}

void WakeAll(const std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

namespace {

// Signals of a thread's own faults do not come while it waits; many programs and the sanitizers
// have handlers for them.
bool IsFault(int number) {
  return number == SIGSEGV || number == SIGBUS || number == SIGFPE || number == SIGILL ||
         number == SIGTRAP || number == SIGSYS || number == SIGABRT;
}

std::atomic<bool> waits_may_be_ended{false};

}  // namespace

void OnSignalHandler(int signal, bool restarts) {
  if (!restarts && !IsFault(signal)) waits_may_be_ended.store(true, std::memory_order_relaxed);
}

bool WaitsMayBeEnded() { return waits_may_be_ended.load(std::memory_order_relaxed); }

bool HandlersRestart() {
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  bool any = false;
  for (int number = 1; number <= SIGRTMAX; ++number) {
    struct sigaction action;
    if (IsFault(number)) continue;
    // The C library keeps some for itself and says nothing of them.
    if (sigismember(&blocked, number) == 1 || sigaction(number, nullptr, &action) != 0) continue;
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN) continue;
    if ((action.sa_flags & SA_RESTART) == 0) return false;
    any = true;
  }
  return any;
}

}  // namespace oxmem::nex
