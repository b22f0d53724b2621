// Setting the action of a signal goes on to the C library, and so does blocking signals; what
// stands guard over the program's memory (program_memory.h) has to know when its handlers are
// replaced, and when a thread may have blocked what they are for.
#include <signal.h>

#include <atomic>

#include "rdma/nex/preload/real.h"
#include "rdma/nex/program_memory.h"
#include "rdma/nex/waiting.h"

namespace nex = oxmem::nex;

NEX_EXPORT int sigaction(int number, const struct sigaction* action, struct sigaction* before) {
  static const auto real =
      reinterpret_cast<int (*)(int, const struct sigaction*, struct sigaction*)>(
          nex::RealSymbol("sigaction"));
  const bool ours = action != nullptr && nex::IsMemoryGuard(*action);
  const int result = real(number, action, before);
  if (result == 0 && action != nullptr) {
    nex::OnSignalAction(number, ours);
    const bool handles = action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
    if (handles) nex::OnSignalHandler(number, (action->sa_flags & SA_RESTART) != 0);
  }
  return result;
}

// The C library sets actions by calls of its own in these.

NEX_EXPORT int siginterrupt(int number, int interrupts) noexcept {
  static const auto real = reinterpret_cast<int (*)(int, int)>(nex::RealSymbol("siginterrupt"));
  if (interrupts != 0) nex::OnSignalHandler(number, false);
  return real(number, interrupts);
}

namespace {

using Setter = sighandler_t (*)(int, sighandler_t);

sighandler_t Set(const char* name, int number, sighandler_t handler, bool restarts) {
  const sighandler_t before = reinterpret_cast<Setter>(nex::RealSymbol(name))(number, handler);
  if (before == SIG_ERR) return before;
  nex::OnSignalAction(number, false);
  if (handler != SIG_DFL && handler != SIG_IGN) nex::OnSignalHandler(number, restarts);
  return before;
}

}  // namespace

extern "C" sighandler_t bsd_signal(int, sighandler_t) noexcept;
extern "C" sighandler_t sysv_signal(int, sighandler_t) noexcept;
NEX_EXPORT sighandler_t signal(int number, sighandler_t handler) noexcept {
  return Set("signal", number, handler, true);
}
NEX_EXPORT sighandler_t ssignal(int number, sighandler_t handler) noexcept {
  return Set("signal", number, handler, true);
}
NEX_EXPORT sighandler_t bsd_signal(int number, sighandler_t handler) noexcept {
  return Set("signal", number, handler, true);
}
// What signal is where a program wants that of System V.
NEX_EXPORT sighandler_t sysv_signal(int number, sighandler_t handler) noexcept {
  return Set("__sysv_signal", number, handler, false);
}
NEX_EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept {
  return Set("__sysv_signal", number, handler, false);
}
NEX_EXPORT sighandler_t sigset(int number, sighandler_t handler) noexcept {
  const sighandler_t before = reinterpret_cast<Setter>(nex::RealSymbol("sigset"))(number, handler);
  nex::OnSignalMask();
  // This one only blocks the signal.
  if (before == SIG_ERR || handler == SIG_HOLD) return before;
  nex::OnSignalAction(number, false);
  if (handler != SIG_DFL && handler != SIG_IGN) nex::OnSignalHandler(number, false);
  return before;
}
NEX_EXPORT int sigignore(int number) noexcept {
  static const auto real = reinterpret_cast<int (*)(int)>(nex::RealSymbol("sigignore"));
  const int result = real(number);
  if (result == 0) nex::OnSignalAction(number, false);
  return result;
}

namespace {

// Without a lock, as these are called in handlers and after a fork as well.
template <typename Function>
Function Real(std::atomic<Function>& known, const char* name) {
  Function real = known.load(std::memory_order_relaxed);
  if (real == nullptr) {
    real = reinterpret_cast<Function>(nex::RealSymbol(name));
    known.store(real, std::memory_order_relaxed);
  }
  return real;
}

using MaskSetter = int (*)(int, const sigset_t*, sigset_t*);
using OneSetter = int (*)(int);

}  // namespace

NEX_EXPORT int pthread_sigmask(int how, const sigset_t* set, sigset_t* before) noexcept {
  static std::atomic<MaskSetter> real;
  if (set != nullptr) nex::OnSignalMask();
  return Real(real, "pthread_sigmask")(how, set, before);
}
NEX_EXPORT int sigprocmask(int how, const sigset_t* set, sigset_t* before) noexcept {
  static std::atomic<MaskSetter> real;
  if (set != nullptr) nex::OnSignalMask();
  return Real(real, "sigprocmask")(how, set, before);
}
NEX_EXPORT int sighold(int number) noexcept {
  static std::atomic<OneSetter> real;
  nex::OnSignalMask();
  return Real(real, "sighold")(number);
}
NEX_EXPORT int sigrelse(int number) noexcept {
  static std::atomic<OneSetter> real;
  nex::OnSignalMask();
  return Real(real, "sigrelse")(number);
}
NEX_EXPORT int sigblock(int mask) noexcept {
  static std::atomic<OneSetter> real;
  nex::OnSignalMask();
  return Real(real, "sigblock")(mask);
}
NEX_EXPORT int sigsetmask(int mask) noexcept {
  static std::atomic<OneSetter> real;
  nex::OnSignalMask();
  return Real(real, "sigsetmask")(mask);
}
