#ifndef RDMA_NEX_HOST_IDENTITY_H_
#define RDMA_NEX_HOST_IDENTITY_H_

#include <cstdint>

namespace oxmem::nex {

// How a process announces itself to a peer on the same host; all 0: it does not.
struct HostIdentity {
  std::uint32_t pid = 0;
  std::uint32_t fd = 0;  // of its segment (direct/segment.h)
  std::uint64_t token = 0;

  friend bool operator==(const HostIdentity&, const HostIdentity&) = default;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_HOST_IDENTITY_H_
