#ifndef APPS_MOUNT_OWN_PLACES_H_
#define APPS_MOUNT_OWN_PLACES_H_

#include "absl/status/status.h"
#include "apps/mount/mount_spec.h"

namespace oxmem::apps {

// Whether the process that serves the mount would use a file in it: it would wait for itself, and
// nobody could end it. An error names the file and what to change. To be asked before the mount is
// there, or while another process serves it.
absl::Status CheckOwnPlaces(const MountSpec& spec);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_OWN_PLACES_H_
