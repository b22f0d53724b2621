#ifndef APPS_MOUNT_MOUNT_SPEC_H_
#define APPS_MOUNT_MOUNT_SPEC_H_

#include <cstddef>
#include <optional>
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
  std::optional<std::size_t> threads;  // reactors; not said: see ReactorCount
  std::string stats_file;
  Duration stats_interval = Duration::Seconds(2);
  bool stats_interval_given = false;
  std::string prometheus;  // HOST:PORT; empty: none
  std::string log_level = "info";
  // The mount waits this long for a server when its own has died; not said: as ServeMount's caller
  // thinks best.
  std::optional<Duration> keep;
  bool timeout_given = false;  // options.timeout was asked for; sources without their own use it
  bool replace = false;        // a mount that another process serves is taken over
};

// Puts a mount together from words that come one by one, each checked as it comes. The first error
// ends it.
class MountSpecBuilder {
 public:
  // With the owner and the umask of this process.
  MountSpecBuilder();

  absl::Status AddSource(const std::string& text);
  void SetDirectory(const std::string& directory) { spec_.options.directory = directory; }
  // A value of -o: options with commas between, also those that mount(8), fstab and systemd leave
  // there. An error begins with "-o KEY: ".
  absl::Status AddOptions(const std::string& list);
  absl::Status AddOption(const std::string& key, const std::string& value);

  // At least one source and the directory are there.
  absl::StatusOr<MountSpec> Build() &&;

  // Whether it is an option of ours, as opposed to one that is only let through.
  static bool IsOption(const std::string& key);
  // All of them, with commas between.
  static std::string OptionNames();

 private:
  std::string DeviceName() const;

  MountSpec spec_;
  std::vector<std::string> names_;  // what name= gave
};

// `words` are SOURCE… DIR; without a source it is mem:?size=1G. `option_lists` are the values of
// -o.
absl::StatusOr<MountSpec> ParseMountSpec(const std::vector<std::string>& words,
                                         const std::vector<std::string>& option_lists);

// Of options.words, which has all that was said, as source=URI and KEY=VALUE, then directory=PATH,
// then what was changed since the mount was made: the same again. Relative paths in them begin at
// the working directory.
absl::StatusOr<MountSpec> MountSpecOf(const std::vector<std::string>& words);

// Whether its requests wait for another process, which may be silent.
bool WaitsForPeer(const transport::Source& source);

// The -o options for a help text, one a line.
extern const char kMountOptionsHelp[];

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_MOUNT_SPEC_H_
