#ifndef APPS_MOUNT_MOUNT_SPEC_H_
#define APPS_MOUNT_MOUNT_SPEC_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/fuse/mount_options.h"
#include "transport/api/source.h"
#include "transport/base/clock.h"

namespace oxmem::apps {

// A mount as the user asked for it, checked as far as words can be.
struct MountSpec {
  std::vector<transport::Source> sources;
  std::vector<fs::MountFile> files;  // one for each source
  fs::MountOptions options;
  std::size_t threads = 1;
  std::string stats_file;
  Duration stats_interval = Duration::Seconds(2);
  std::string log_level = "info";
};

// `words` are SOURCE… DIR; without a source it is mem:?size=1G. `option_lists` are the values of
// -o: comma-separated, also with what mount(8), fstab and systemd leave in them.
absl::StatusOr<MountSpec> ParseMountSpec(const std::vector<std::string>& words,
                                         const std::vector<std::string>& option_lists);

// The -o options for a help text, one a line.
extern const char kMountOptionsHelp[];

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_MOUNT_SPEC_H_
