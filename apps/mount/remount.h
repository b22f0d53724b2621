#ifndef APPS_MOUNT_REMOUNT_H_
#define APPS_MOUNT_REMOUNT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/mount/mount_spec.h"
#include "fs/fuse/mount_point.h"

namespace oxmem::apps {

// mount -o remount: options of a mount are changed while it is used. The process that serves it is
// asked by its control socket, and the kernel by who runs mount.

// Whether the values of -o ask for it.
bool AsksForRemount(const std::vector<std::string>& option_lists);

// The command for the server of the mount with that number, OurMount's (ControlServer). Its
// argument is an object with `source`, a text, `options`, values of -o, and `only_check`.
std::string RemountName(const std::string& device);

// The mount with these options besides: those that are not named stay as they are, and those that
// mount(8) repeats from the mount table or fstab are no change. An error says which one cannot be
// changed while the mount is there, and what to do for it. `source` is one that mount(8) gives, or
// empty.
absl::StatusOr<MountSpec> Remounted(const MountSpec& now, const std::string& source,
                                    const std::vector<std::string>& option_lists);

// The whole of it; returns the exit code.
int RemountCommand(const std::string& program, const std::string& source,
                   const std::string& directory, const std::vector<std::string>& option_lists);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_REMOUNT_H_
