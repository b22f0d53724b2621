#ifndef FS_FUSE_MOUNT_OPTIONS_H_
#define FS_FUSE_MOUNT_OPTIONS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transport/base/clock.h"

namespace oxmem::fs {

// What the user wants of memory that may lie on this host.
enum class Dax : uint8_t {
  kAuto,    // passthrough where it is possible, else the page cache
  kAlways,  // passthrough, or the mount fails and says why
  kNever,   // direct reads and writes; mappings through the page cache
};

// What a file got.
enum class FileMode : uint8_t {
  kPassthrough,  // the kernel reads, writes and maps the region's own memory
  kPageCache,    // cached; O_DIRECT goes past the cache
  kDirect,       // every read and write comes to us; mappings through the page cache
};

constexpr const char* FileModeName(FileMode mode) {
  switch (mode) {
    case FileMode::kPassthrough:
      return "passthrough";
    case FileMode::kPageCache:
      return "page-cache";
    case FileMode::kDirect:
      return "direct";
  }
  return "";
}

struct MountOptions {
  std::string directory;    // where it is mounted, or was before somebody moved it
  std::string device;       // "0-45": the mount's number on this host, once there is one
  std::string device_name;  // what df and mount show; the source
  bool read_only = false;
  bool allow_other = false;  // users other than the one who mounts
  bool no_exec = false;
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t umask = 022;
  Dax dax = Dax::kAuto;
  Duration timeout = Duration::Seconds(30);  // of a request, then EIO
  std::optional<Duration> spin;  // look for work this long before sleeping; not said: as it pays
  uint64_t read_ahead_bytes = uint64_t{1} << 20;
  // All that was said of the mount, in a form that is its maker's affair: for successors.
  std::vector<std::string> words;
};

// One file of the mount.
struct MountFile {
  std::string name;
  std::string source;  // as the user wrote it
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_MOUNT_OPTIONS_H_
