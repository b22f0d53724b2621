#ifndef APPS_MOUNT_MOUNT_RUN_H_
#define APPS_MOUNT_MOUNT_RUN_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "apps/mount/keeper.h"
#include "apps/mount/mount_spec.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// Where a serving process stands in the life of its mount.
struct ServePlan {
  KeeperPlan keeper;     // with no patience there is none
  UniqueFd predecessor;  // a keeper's socket, if that keeper started this process
  int waiting_fd = -1;   // the writing end of a pipe, if somebody waits at its other end
};

// Mounts, or goes on with a mount, and serves until the mount is gone or the process is told to
// stop. `on_ready` is called once, with a line for each file, when the mount answers; if it returns
// false, nobody has waited for that, and what was mounted is taken away again. If the process is
// told to stop, or nobody waits at the pipe any more, before anything was mounted or taken over,
// the process ends at once.
absl::Status ServeMount(const MountSpec& spec, ServePlan plan,
                        const std::function<bool(const std::string& text)>& on_ready);

// The whole of `oxmem mount` once its words are understood; returns the exit code. In the
// foreground it serves; otherwise it returns when a process of its own is serving, or could not and
// said why.
int MountCommand(const std::string& program, const absl::StatusOr<MountSpec>& spec,
                 bool foreground);

// `oxmem mount --all`: mounts in the background what the configuration files describe and is not
// mounted yet. Goes on after an error; returns the worst exit code.
int MountAllCommand(const std::string& program, const std::vector<std::string>& option_lists);

// The whole of `oxmem umount`.
int UmountCommand(const std::string& program, const std::string& directory, bool lazy);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_MOUNT_RUN_H_
