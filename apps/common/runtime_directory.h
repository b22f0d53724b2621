#ifndef APPS_COMMON_RUNTIME_DIRECTORY_H_
#define APPS_COMMON_RUNTIME_DIRECTORY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace oxmem::apps {

// Where this user's processes put their control sockets: $OXMEM_RUNTIME_DIR if set, /run/oxmem for
// root, otherwise $XDG_RUNTIME_DIR/oxmem. Without any of them there is no place that others cannot
// write to, and that is an error.
absl::StatusOr<std::string> RuntimeDirectory();

// The same, made if it is missing, with mode 0755 whatever the umask: a socket in it says by its
// own mode whom it is for.
absl::StatusOr<std::string> MakeRuntimeDirectory();

// Where to look for the sockets of others: only $OXMEM_RUNTIME_DIR if set; otherwise /run/oxmem,
// and the user's own, for root everybody's.
std::vector<std::string> RuntimeDirectories();

}  // namespace oxmem::apps

#endif  // APPS_COMMON_RUNTIME_DIRECTORY_H_
