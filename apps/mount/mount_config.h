#ifndef APPS_MOUNT_MOUNT_CONFIG_H_
#define APPS_MOUNT_MOUNT_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/mount/mount_spec.h"

namespace oxmem::apps {

// Files that describe mounts, one each, as lines of KEY = VALUE:
//
//   # memory of the other machine
//   source = tloe://eth1/04:3f:72:dd:0b:05?size=8G
//   directory = /mnt/oxmem
//   options = allow_other,dax=auto
//   timeout = 5s
//
// `source` may come again, or have several with blanks between; `options` are those of -o, and each
// of them may be a line of its own, without a value where it has none. Values may stand in quotes.
// The three keys may be in capitals, as in a file that systemd reads too.

// $OXMEM_CONFIG_DIR if set, otherwise /etc/oxmem.
std::string ConfigDirectory();

// The file a user means: a path if there is a slash in it, otherwise NAME.conf in the directory.
std::string ConfigPath(const std::string& name);

// The paths of all mounts described in the directory, sorted. Those of memory nodes, serve-*.conf,
// are none. A missing directory has none; any other trouble is an error.
absl::StatusOr<std::vector<std::string>> AllConfigPaths();

// The mount a file describes, with `option_lists` added behind its own. An error begins with
// FILE:LINE: where a line is wrong, and with FILE: where something is missing.
absl::StatusOr<MountSpec> ReadMountConfig(const std::string& path,
                                          const std::vector<std::string>& option_lists);

// The same of a text; `path` is for messages.
absl::StatusOr<MountSpec> ParseMountConfig(const std::string& path, const std::string& text,
                                           const std::vector<std::string>& option_lists);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_MOUNT_CONFIG_H_
