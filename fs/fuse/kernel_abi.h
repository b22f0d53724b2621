#ifndef FS_FUSE_KERNEL_ABI_H_
#define FS_FUSE_KERNEL_ABI_H_

// The few pieces of the kernel's FUSE interface (linux/fuse.h) that the C library headers of
// Debian 12 and libfuse 3.14 do not have yet, and the ones used besides libfuse.

#include <linux/fuse.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace oxmem::fs::kernel {

// Protocol 7.40: passthrough to a file of the daemon. The flags live in the upper half, flags2.
inline constexpr uint32_t kFlags2DirectIoAllowMmap = 1u << (36 - 32);
inline constexpr uint32_t kFlags2Passthrough = 1u << (37 - 32);
inline constexpr uint32_t kOpenPassthrough = 1u << 7;

// Also 7.40 (Linux 6.9): requests that were read and not answered come again.
inline constexpr uint32_t kFlags2HasResend = 1u << (39 - 32);
inline constexpr int32_t kNotifyResend = 7;

// The word behind flags2 in fuse_init_out, which 7.38 calls unused[0] and 7.40 max_stack_depth.
inline constexpr std::size_t kMaxStackDepthOffset =
    offsetof(fuse_init_out, flags2) + sizeof(fuse_init_out::flags2);

// fuse_open_out with the backing file, which 7.38 calls padding.
struct OpenOut {
  uint64_t fh;
  uint32_t open_flags;
  int32_t backing_id;
};

struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
inline constexpr unsigned long kIoctlBackingOpen = _IOW(229, 1, BackingMap);
inline constexpr unsigned long kIoctlClone = _IOR(229, 0, uint32_t);

static_assert(sizeof(fuse_in_header) == 40 && sizeof(fuse_out_header) == 16);
static_assert(sizeof(fuse_init_out) == 64 && kMaxStackDepthOffset == 36);
static_assert(sizeof(OpenOut) == sizeof(fuse_open_out));
static_assert(sizeof(fuse_write_in) == 40);

}  // namespace oxmem::fs::kernel

#endif  // FS_FUSE_KERNEL_ABI_H_
