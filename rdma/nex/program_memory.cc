#include "rdma/nex/program_memory.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>

namespace oxmem::nex {
namespace {

// The thread sanitizer's own copies and handlers do not bear a jump out of them.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NEX_THREAD_SANITIZER 1
#endif
#endif
#if defined(NEX_THREAD_SANITIZER)
constexpr bool kCanGuard = false;
#else
constexpr bool kCanGuard = true;
#endif

// Where a fault within the memory goes back to.
struct Landing {
  std::uintptr_t first;
  std::size_t size;
  sigjmp_buf back;
};

// Read by the handler, so nothing may have to be allocated for it first.
[[gnu::tls_model("initial-exec")]] constinit thread_local Landing* volatile landing = nullptr;

struct Taken {
  int signal;
  std::atomic<bool> standing{false};  // the handler here is the one that is set
  struct sigaction before = {};
};
Taken taken[2] = {{SIGSEGV}, {SIGBUS}};

// Hands a fault that is not of this file to the handler of the program, as the system would.
void Forward(Taken& from, siginfo_t* info, void* context) {
  const struct sigaction& before = from.before;
  const bool extended = (before.sa_flags & SA_SIGINFO) != 0;
  const bool sent = info->si_code <= 0;  // by somebody; nothing will happen again by itself
  if (!extended && (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN)) {
    if (sent && before.sa_handler == SIG_IGN) return;
    sigaction(from.signal, &before, nullptr);
    if (sent) raise(from.signal);
    return;
  }
  sigset_t mask = before.sa_mask;
  if ((before.sa_flags & SA_NODEFER) == 0) sigaddset(&mask, from.signal);
  pthread_sigmask(SIG_BLOCK, &mask, nullptr);  // until the handler returns
  if ((before.sa_flags & SA_RESETHAND) != 0) {
    struct sigaction reset = {};
    reset.sa_handler = SIG_DFL;
    sigaction(from.signal, &reset, nullptr);
  }
  if (extended) {
    before.sa_sigaction(from.signal, info, context);
  } else {
    before.sa_handler(from.signal);
  }
}

void OnFault(int signal, siginfo_t* info, void* context) {
  Landing* const here = landing;
  const auto at = reinterpret_cast<std::uintptr_t>(info->si_addr);
  if (here != nullptr && info->si_code > 0 && at - here->first < here->size) {
    landing = nullptr;
    siglongjmp(here->back, 1);
  }
  Forward(taken[signal == SIGBUS ? 1 : 0], info, context);
}

// A fault with the signal blocked ends the process whatever the handler. The system is asked which
// ones are, again after each call that changes them, and now and then, as a jump can as well.
constexpr int kBelieved = 64;
thread_local int believed = 0;  // so many times more is the last answer taken for true
thread_local bool signals_open = false;

bool SignalsOpen() {
  if (believed-- > 0) return signals_open;
  sigset_t blocked;
  pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
  signals_open = sigismember(&blocked, SIGSEGV) == 0 && sigismember(&blocked, SIGBUS) == 0;
  believed = kBelieved;
  return signals_open;
}

bool Guarded() {
  return taken[0].standing.load(std::memory_order_relaxed) &&
         taken[1].standing.load(std::memory_order_relaxed) && SignalsOpen();
}

// Runs `access`, which touches nothing of the program's but this memory and holds nothing that
// would have to be given back. False: it was cut off by a fault. Not inlined: what it keeps in
// registers across the jump is nobody else's.
template <typename Access>
[[gnu::noinline]] bool Try(const void* memory, std::size_t size, const Access& access) {
  Landing here;
  here.first = reinterpret_cast<std::uintptr_t>(memory);
  here.size = size;
  if (sigsetjmp(here.back, 0) != 0) return false;
  landing = &here;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  access();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  landing = nullptr;
  return true;
}

// Whether the word can be written, without changing it. What another thread of the program takes
// away a moment later is not seen.
bool Writable(void* word) {
  static int nobody_waits_here;
  constexpr int kOrNothing = FUTEX_OP(FUTEX_OP_OR, 0, FUTEX_OP_CMP_EQ, 0);
  return syscall(SYS_futex, &nobody_waits_here, FUTEX_WAKE_OP_PRIVATE, 0, nullptr, word,
                 kOrNothing) >= 0 ||
         errno != EFAULT;
}

template <typename Access>
bool TryAtomic(std::uint64_t* value, const Access& access) {
  if (Guarded()) {
    // Looked at first: what sanitizers make of an atomic access is not to be left by a jump.
    return Try(value, sizeof *value, [value, &access] {
      static_cast<void>(*static_cast<volatile std::uint64_t*>(value));
      access();
    });
  }
  if (!Writable(value)) return false;
  access();
  return true;
}

}  // namespace

bool GuardProgramMemory() {
  if (!kCanGuard) return false;
  static std::once_flag once;
  std::call_once(once, [] {
    for (Taken& one : taken) {
      struct sigaction action = {};
      action.sa_sigaction = OnFault;
      // Not deferred and with no mask, as the jump out of the handler does not restore one.
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
      sigemptyset(&action.sa_mask);
      // The handler may be needed before the second call has returned.
      if (sigaction(one.signal, nullptr, &one.before) != 0) continue;
      if (sigaction(one.signal, &action, &one.before) == 0) one.standing.store(true);
    }
  });
  return true;
}

void OnSignalAction(int signal, bool ours) {
  for (Taken& one : taken) {
    if (one.signal == signal) one.standing.store(ours);
  }
}

void OnSignalMask() { believed = 0; }

bool IsMemoryGuard(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == OnFault;
}

bool CopyToProgram(const IoBatch& batch, std::span<const std::byte> bytes) {
  if (bytes.empty()) return true;
  const bool guarded = Guarded();
  if (!guarded) {
    const iovec from{const_cast<std::byte*>(bytes.data()), bytes.size()};
    const ssize_t copied = process_vm_writev(getpid(), &from, 1, batch.pieces.data(),
                                             static_cast<unsigned long>(batch.piece_count), 0);
    if (copied == static_cast<ssize_t>(bytes.size())) return true;
    if (copied >= 0 || errno == EFAULT) return false;
    // A filter of system calls forbids it.
  }
  std::size_t at = 0;
  for (int i = 0; i < batch.piece_count && at < bytes.size(); ++i) {
    void* const to = batch.pieces[i].iov_base;
    const std::byte* const from = bytes.data() + at;
    const std::size_t piece = std::min(batch.pieces[i].iov_len, bytes.size() - at);
    at += piece;
    const auto copy = [to, from, piece] { std::memcpy(to, from, piece); };
    if (!guarded) {
      copy();
    } else if (!Try(to, piece, copy)) {
      return false;
    }
  }
  return true;
}

bool CopyFromProgram(const IoBatch& batch, std::byte* to) {
  if (!Guarded()) return false;
  for (int i = 0; i < batch.piece_count; ++i) {
    const void* const from = batch.pieces[i].iov_base;
    const std::size_t piece = batch.pieces[i].iov_len;
    if (!Try(from, piece, [to, from, piece] { std::memcpy(to, from, piece); })) return false;
    to += piece;
  }
  return true;
}

bool FetchAddInProgram(std::uint64_t* value, std::uint64_t add, std::uint64_t* found) {
  return TryAtomic(value, [value, add, found] {
    *found = std::atomic_ref<std::uint64_t>(*value).fetch_add(add);
  });
}

bool CompareSwapInProgram(std::uint64_t* value, std::uint64_t compare, std::uint64_t swap,
                          std::uint64_t* found) {
  return TryAtomic(value, [value, compare, swap, found] {
    *found = compare;
    std::atomic_ref<std::uint64_t>(*value).compare_exchange_strong(*found, swap);
  });
}

}  // namespace oxmem::nex
