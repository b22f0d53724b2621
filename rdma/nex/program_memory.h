#ifndef RDMA_NEX_PROGRAM_MEMORY_H_
#define RDMA_NEX_PROGRAM_MEMORY_H_

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "rdma/nex/qp/work.h"

namespace oxmem::nex {

// Access by hand to registered memory that the program may have given back to the system
// meanwhile: a device would go on using the pages it holds, and a plain access would end the
// program. These end with false instead. The system's own calls answer EFAULT and need none of it.
//
// An access that fails raises SIGSEGV or SIGBUS, and a handler takes it from there; every other
// fault goes to the handler that the program had. Where that cannot work (the program set a
// handler of its own later, or the thread blocks these signals) the system makes the copies, which
// takes much longer.

// Takes the two signals over, once in a process. Without it all goes the slow way, as it does where
// it returns false: under the thread sanitizer.
bool GuardProgramMemory();
// The program has set the action of a signal; `ours`: to what it was when it asked.
void OnSignalAction(int signal, bool ours);
// The calling thread may have changed which signals it blocks.
void OnSignalMask();
// Whether this is the handler that GuardProgramMemory sets.
bool IsMemoryGuard(const struct sigaction& action);

// Copies all bytes into the batch, which is mapped and pinned and has room for them.
bool CopyToProgram(const IoBatch& batch, std::span<const std::byte> bytes);
// Copies the whole batch to `to`, which has room for it. False as well where it would be slow.
bool CopyFromProgram(const IoBatch& batch, std::byte* to);

// Atomics of a peer, as of any thread of the program. *found: what was there before.
bool FetchAddInProgram(std::uint64_t* value, std::uint64_t add, std::uint64_t* found);
bool CompareSwapInProgram(std::uint64_t* value, std::uint64_t compare, std::uint64_t swap,
                          std::uint64_t* found);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_PROGRAM_MEMORY_H_
