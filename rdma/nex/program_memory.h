#ifndef RDMA_NEX_PROGRAM_MEMORY_H_
#define RDMA_NEX_PROGRAM_MEMORY_H_

#include <cstddef>
#include <span>

#include "rdma/nex/qp/work.h"

namespace oxmem::nex {

// Copies the bytes into the batch, which is mapped and pinned and has room for them. False if the
// program has given that memory back to the system meanwhile: a device would go on writing to the
// pages it holds, and a copy by hand would end the program.
bool CopyToProgram(const IoBatch& batch, std::span<const std::byte> bytes);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_PROGRAM_MEMORY_H_
