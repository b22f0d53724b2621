#ifndef RDMA_NEX_WAITING_H_
#define RDMA_NEX_WAITING_H_

#include <atomic>
#include <cstdint>

namespace oxmem::nex {

// Waits that a signal ends, or does not, as it does read(2): the kernel goes on with that after a
// handler with SA_RESTART.

// Until the word is no longer `seen` and somebody has called WakeAll, or a moment longer than
// nothing. False with EINTR. A thread can be cancelled here, so the caller holds no lock.
bool WaitWhile(const std::atomic<std::uint32_t>& word, std::uint32_t seen);
void WakeAll(const std::atomic<std::uint32_t>& word);

// After EINTR of a wait for several descriptors, which the kernel never goes on with: whether it
// would have. Which signal it was is not known, so where handlers of both kinds are set for signals
// that this thread does not block, the answer is no.
bool HandlersRestart();

// The program has set an action for a signal. Once that was a handler without SA_RESTART, waits are
// begun at once, since one that only looks around for a while would not be ended by it.
void OnSignalHandler(int signal, bool restarts);
bool WaitsMayBeEnded();

}  // namespace oxmem::nex

#endif  // RDMA_NEX_WAITING_H_
