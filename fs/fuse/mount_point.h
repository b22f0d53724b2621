#ifndef FS_FUSE_MOUNT_POINT_H_
#define FS_FUSE_MOUNT_POINT_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace oxmem::fs {

// The file system type in the mount table.
inline constexpr char kMountType[] = "fuse.oxmem";

// The directory's absolute path, if a mount can go there: it exists, is a directory, is empty and
// not a mount point. What a killed daemon left there is taken away first.
absl::StatusOr<std::string> PrepareMountPoint(const std::string& directory);

struct OurMount {
  std::string path;    // absolute
  std::string device;  // "0-45": the number of the mount on this host
};

// A mount of ours, whether or not anybody serves it: nothing is asked of it.
absl::StatusOr<OurMount> FindMount(const std::string& directory);

enum class MountState {
  kServed,
  kDead,    // nobody serves it, and nobody can
  kSilent,  // its daemon does not answer, or a keeper waits for another one
};

// Asks the daemon, and gives it a few seconds.
MountState StateOfMount(const std::string& path);

enum class UnmountMode {
  kClean,   // fails with EBUSY while it is in use
  kDetach,  // out of sight at once, gone when nobody uses it any more
};

// As root by the system call, otherwise through fusermount3. Dirty pages are written back first,
// so the daemon must be serving, on another thread if it is this process.
absl::Status Unmount(const std::string& directory, UnmountMode mode);

// What keeps a mount busy.
struct Holder {
  pid_t pid = 0;        // 0: no process, but the kernel for a device or a mount
  std::string command;  // "fio", "/dev/loop0"
  std::string how;      // "has /mnt/oxmem/data open"
};

// As far as this user may look.
std::vector<Holder> FindHolders(const std::string& directory);

}  // namespace oxmem::fs

#endif  // FS_FUSE_MOUNT_POINT_H_
