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

NEX_EXPORT sighandler_t signal(int number, sighandler_t handler) {
  const sighandler_t before = NEX_REAL(signal)(number, handler);
  if (before != SIG_ERR) nex::OnSignalAction(number, false);
  return before;
}
