#ifndef APPS_MOUNT_MOUNT_SUCCESSION_H_
#define APPS_MOUNT_MOUNT_SUCCESSION_H_

#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/mount/keeper.h"
#include "apps/mount/mount_spec.h"
#include "fs/fuse/mount_point.h"
#include "fs/volume/volume.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// The keeper whose mount this process is to go on with: the one that started it, or that of a mount
// at the directory which nobody serves, or is to be replaced. Null if there is none and the mount
// is to be made. A mount that nobody serves and that is of something else is given up for it. What
// was changed of a mount since it was made (remount.h) holds on: all of it for one that its keeper
// has started again, ro or rw for one that goes on with a mount that nobody serves.
absl::StatusOr<std::unique_ptr<Predecessor>> FindPredecessor(MountSpec* spec, UniqueFd inherited);

// What the server of the mount is asked for by its control socket when it has no keeper that could
// be asked: one for a successor. `device` is OurMount's.
std::string LendCommand(const std::string& device);

// Whether the opened sources are those of the mount.
absl::Status CheckSuccession(const Predecessor& predecessor, const MountSpec& spec,
                             std::span<const std::unique_ptr<fs::Volume>> volumes);

// Takes the mount out of sight where it is now; something else may be at the directory that it was
// made at.
absl::Status UnmountOrphan(const Predecessor& predecessor);

// Has the keeper of a mount that nobody serves let it die, if there is one.
void GiveUpOrphan(const std::string& directory);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_MOUNT_SUCCESSION_H_
