#ifndef FS_FUSE_KERNEL_ABI_H_
#define FS_FUSE_KERNEL_ABI_H_

// The few pieces of the kernel's FUSE interface (linux/fuse.h) that the C library headers of
// Debian 12 and libfuse 3.14 do not have yet, and the ones used besides libfuse.

#include <linux/fuse.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace oxmem::fs::kernel {

// Protocol 7.40: passthrough to a file of the daemon. The flags live in the upper half, flags2.
inline constexpr uint32_t kFlags2DirectIoAllowMmap = 1u << (36 - 32);
inline constexpr uint32_t kFlags2Passthrough = 1u << (37 - 32);
inline constexpr uint32_t kOpenPassthrough = 1u << 7;

// fuse_init_out with the fields that came after 7.38, which says unused[7].
inline constexpr int kUnusedMaxStackDepth = 0;

struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
inline constexpr unsigned long kIoctlBackingOpen = _IOW(229, 1, BackingMap);
inline constexpr unsigned long kIoctlClone = _IOR(229, 0, uint32_t);

static_assert(sizeof(fuse_in_header) == 40 && sizeof(fuse_out_header) == 16);
static_assert(sizeof(fuse_init_out) == 64 && sizeof(fuse_open_out) == 16);
static_assert(sizeof(fuse_write_in) == 40);

}  // namespace oxmem::fs::kernel

#endif  // FS_FUSE_KERNEL_ABI_H_
