#ifndef RDMA_NEX_CM_KERNEL_MANAGER_H_
#define RDMA_NEX_CM_KERNEL_MANAGER_H_

#include <rdma/rdma_user_cm.h>
#include <sys/types.h>

#include <cstdint>

#include "transport/base/unique_fd.h"

namespace oxmem::nex {

inline constexpr const char* kCmPath = "/dev/infiniband/rdma_cm";

// A file of the kernel's own connection manager, which hosts with other devices than nex0 have.
// Nothing here waits.
class KernelManager {
 public:
  // The number of its device node; 0 if this host has none.
  static dev_t Device();

  KernelManager();
  void Close() { fd_.Reset(); }
  bool there() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

  // A command as the program gave it: 0 or an errno.
  int Pass(std::uint32_t command, const void* in, std::size_t in_size, std::size_t out_size) const;

  // The handle of a new identifier, or 0.
  std::uint32_t Create(rdma_ucm_create_id command) const;
  void Destroy(std::uint32_t handle) const;
  // Moves an identifier here.
  void Take(std::uint32_t handle, const KernelManager& from) const;
  // Whether an event can be had.
  bool HasEvent() const;

 private:
  UniqueFd fd_;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_CM_KERNEL_MANAGER_H_
