#ifndef FS_FUSE_MOUNT_POINT_H_
#define FS_FUSE_MOUNT_POINT_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/unique_fd.h"

namespace oxmem::fs {

// The file system type in the mount table.
inline constexpr char kMountType[] = "fuse.oxmem";

struct MountPoint {
  std::string path;  // absolute
  UniqueFd turn;     // while it is held, no other oxmem mounts there
};

// The directory, if a mount can go there: it exists, is a directory, is empty and not a mount
// point. What a killed daemon left there is taken away first.
absl::StatusOr<MountPoint> PrepareMountPoint(const std::string& directory);

// The absolute path of a directory that is to be mounted, or is. A mount of ours is not asked.
absl::StatusOr<std::string> MountPath(const std::string& directory);

struct OurMount {
  std::string path;    // absolute
  std::string device;  // "0-45": the number of the mount on this host
  uid_t owner = 0;     // who mounted it

  // Whether a process of that user may be the one that serves it.
  bool MayBeServedBy(uid_t user) const { return user == 0 || user == owner; }
};

// A mount of ours, whether or not anybody serves it: nothing is asked of it.
absl::StatusOr<OurMount> FindMount(const std::string& directory);

// Where the mount of ours with that number is, as this process sees it: at the directory, or where
// somebody moved it; nothing if it is not seen. Nothing is asked of it.
std::optional<std::string> PlaceOf(const std::string& device, const std::string& directory);

enum class Liveness {
  kServed,
  kSilent,  // there is a daemon, or a keeper that waits for one, and no answer within 2 s
  kDead,    // nobody serves the mount and nobody can
};
Liveness LivenessOf(const std::string& path);

enum class UnmountMode {
  kClean,   // fails with EBUSY while it is in use
  kDetach,  // out of sight at once, gone when nobody uses it any more
};

// As root by the system call, otherwise through fusermount3. Dirty pages are written back first,
// so the daemon must be serving, on another thread if it is this process. Another process asks the
// kernel (apart.h).
absl::Status Unmount(const std::string& directory, UnmountMode mode);

}  // namespace oxmem::fs

#endif  // FS_FUSE_MOUNT_POINT_H_
