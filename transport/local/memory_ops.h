#ifndef TRANSPORT_LOCAL_MEMORY_OPS_H_
#define TRANSPORT_LOCAL_MEMORY_OPS_H_

#include <cstddef>
#include <cstdint>

#include "transport/api/request.h"
#include "transport/local/mapped_memory.h"

namespace oxmem::transport {

// Carries out a request that Validate has passed, and returns its completion. Atomics are atomic
// with respect to every process that maps the memory. A flush orders what came before it, which is
// all that memory needs.
Completion Execute(const Request& request, const MappedMemory& memory);

// One atomic operation on the naturally aligned 4 or 8 bytes at `address`, in the byte order of
// this host; returns the old value, zero-extended.
uint64_t ExecuteAtomic(AtomicOp op, std::byte* address, uint64_t length, uint64_t operand,
                       uint64_t compare);

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_MEMORY_OPS_H_
