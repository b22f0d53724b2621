#ifndef RDMA_NEX_VERBS_DEVICE_H_
#define RDMA_NEX_VERBS_DEVICE_H_

#include <cstdint>

#include "rdma/nex/library.h"

namespace oxmem::nex {

// Kernel indices are small; this one is out of their way.
inline constexpr int kDeviceIndex = 0x6e78;

std::uint64_t NodeGuid(const Library& library);  // in network byte order

}  // namespace oxmem::nex

#endif  // RDMA_NEX_VERBS_DEVICE_H_
