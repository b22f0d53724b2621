#ifndef FS_FUSE_PASSTHROUGH_H_
#define FS_FUSE_PASSTHROUGH_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/volume/volume.h"
#include "transport/base/unique_fd.h"

namespace oxmem::fs {

// The requests that a mount's /dev/fuse descriptor takes by ioctl.

// Why the kernel could not read, write and map the region's memory by itself; OK if it could.
absl::Status PassthroughPossible(const VolumeInfo& info, bool kernel_has_passthrough);

// Gives the kernel the memory; the number it gets lives as long as the mount.
absl::StatusOr<int32_t> OpenBacking(int fuse_fd, int memory_fd);

// Makes the kernel look the path up again, in a thread that nobody waits for: it is this process
// that answers.
void LookUpAgain(std::string path);

// One more descriptor of the mount, with a queue of its own of requests that were read.
absl::StatusOr<UniqueFd> CloneFuseFd(int fuse_fd);

}  // namespace oxmem::fs

#endif  // FS_FUSE_PASSTHROUGH_H_
