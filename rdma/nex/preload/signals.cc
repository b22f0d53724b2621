// Setting the action of a signal goes on to the C library; what stands guard over the program's
// memory (program_memory.h) has to know when its handlers are replaced.
#include <signal.h>

#include "rdma/nex/preload/real.h"
#include "rdma/nex/program_memory.h"

namespace nex = oxmem::nex;

NEX_EXPORT int sigaction(int number, const struct sigaction* action, struct sigaction* before) {
  static const auto real =
      reinterpret_cast<int (*)(int, const struct sigaction*, struct sigaction*)>(
          nex::RealSymbol("sigaction"));
  const bool ours = action != nullptr && nex::IsMemoryGuard(*action);
  const int result = real(number, action, before);
  if (result == 0 && action != nullptr) nex::OnSignalAction(number, ours);
  return result;
}

// The C library sets actions by calls of its own in these.

namespace {

using Setter = sighandler_t (*)(int, sighandler_t);

sighandler_t Set(const char* name, int number, sighandler_t handler) {
  const sighandler_t before = reinterpret_cast<Setter>(nex::RealSymbol(name))(number, handler);
  if (before != SIG_ERR) nex::OnSignalAction(number, false);
  return before;
}

}  // namespace

extern "C" sighandler_t bsd_signal(int, sighandler_t) noexcept;
extern "C" sighandler_t sysv_signal(int, sighandler_t) noexcept;
NEX_EXPORT sighandler_t signal(int number, sighandler_t handler) noexcept {
  return Set("signal", number, handler);
}
NEX_EXPORT sighandler_t ssignal(int number, sighandler_t handler) noexcept {
  return Set("signal", number, handler);
}
NEX_EXPORT sighandler_t bsd_signal(int number, sighandler_t handler) noexcept {
  return Set("signal", number, handler);
}
// What signal is where a program wants that of System V.
NEX_EXPORT sighandler_t sysv_signal(int number, sighandler_t handler) noexcept {
  return Set("__sysv_signal", number, handler);
}
NEX_EXPORT sighandler_t __sysv_signal(int number, sighandler_t handler) noexcept {
  return Set("__sysv_signal", number, handler);
}
NEX_EXPORT sighandler_t sigset(int number, sighandler_t handler) noexcept {
  const sighandler_t before = reinterpret_cast<Setter>(nex::RealSymbol("sigset"))(number, handler);
  // This one only blocks the signal.
  if (before != SIG_ERR && handler != SIG_HOLD) nex::OnSignalAction(number, false);
  return before;
}
NEX_EXPORT int sigignore(int number) noexcept {
  static const auto real = reinterpret_cast<int (*)(int)>(nex::RealSymbol("sigignore"));
  const int result = real(number);
  if (result == 0) nex::OnSignalAction(number, false);
  return result;
}
