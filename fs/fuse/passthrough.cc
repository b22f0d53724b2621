#include "fs/fuse/passthrough.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "fs/fuse/apart.h"
#include "fs/fuse/kernel_abi.h"
#include "fs/volume/mapped_volume.h"
#include "transport/base/status.h"

namespace oxmem::fs {

absl::Status PassthroughPossible(const VolumeInfo& info, bool kernel_has_passthrough) {
  OXMEM_RETURN_IF_ERROR(MappedVolume::Mappable(info));
  if (info.local_memory->offset != 0) {
    return absl::FailedPreconditionError("the region does not begin where its memory file begins");
  }
  const int seals = fcntl(info.local_memory->fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_GROW) == 0) {
    return absl::FailedPreconditionError(
        "the region's memory is not sealed against growing, and writes past the end would extend "
        "it");
  }
  if (!kernel_has_passthrough) {
    return absl::FailedPreconditionError(
        "this kernel has no FUSE passthrough (Linux 6.9 or later is needed)");
  }
  return absl::OkStatus();
}

absl::StatusOr<int32_t> OpenBacking(int fuse_fd, int memory_fd) {
  kernel::BackingMap map{.fd = memory_fd, .flags = 0, .padding = 0};
  const int id = ioctl(fuse_fd, kernel::kIoctlBackingOpen, &map);
  if (id > 0) return id;
  if (errno == EPERM) return ErrnoStatus(errno, "passthrough needs root (CAP_SYS_ADMIN)");
  return ErrnoStatus(errno, "the kernel does not take the region's memory for passthrough");
}

void LookUpAgain(std::string path) {
  std::thread([path = std::move(path)] {
    // The answer is that what the kernel knows is stale, and then it looks again.
    (void)Apart([name = path.c_str()] {
      struct statx ignored;
      return statx(AT_FDCWD, name, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &ignored);
    });
  }).detach();
}

absl::StatusOr<UniqueFd> CloneFuseFd(int fd) {
  UniqueFd clone(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!clone.valid()) return ErrnoStatus(errno, "/dev/fuse");
  auto original = static_cast<uint32_t>(fd);
  if (ioctl(clone.get(), kernel::kIoctlClone, &original) != 0) {
    return ErrnoStatus(errno, "/dev/fuse: a second descriptor for the mount");
  }
  return clone;
}

}  // namespace oxmem::fs
