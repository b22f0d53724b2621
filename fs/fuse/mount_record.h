#ifndef FS_FUSE_MOUNT_RECORD_H_
#define FS_FUSE_MOUNT_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/fuse/mount_options.h"
#include "transport/base/unique_fd.h"

namespace oxmem::fs {

// What a process must know to go on with a mount that another one made: what was agreed with the
// kernel, and what the kernel was told of each file. Another one is made when options change.
struct MountRecord {
  struct File {
    std::string name;
    std::string source;
    uint64_t size_bytes = 0;
    bool read_only = false;
    FileMode mode = FileMode::kPageCache;
    std::string mode_reason;

    bool operator==(const File&) const = default;
  };

  std::string directory;
  std::string device;   // as in MountOptions; empty in records of versions that did not know it
  std::string options;  // those that a successor must have too, as text
  // As they were asked for; those of a file may have been changed since.
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t umask = 0;
  uint64_t read_ahead_bytes = 0;
  std::vector<std::string> words;  // MountOptions::words
  std::vector<std::byte> init_request;
  std::vector<std::byte> init_answer;
  std::vector<File> files;

  bool operator==(const MountRecord&) const = default;
};

std::vector<std::byte> EncodeMountRecord(const MountRecord& record);
// The bytes may be of any origin.
absl::StatusOr<MountRecord> DecodeMountRecord(std::span<const std::byte> bytes);

// The same in a memory file that nobody can change any more.
absl::StatusOr<UniqueFd> WriteMountRecord(const MountRecord& record);
absl::StatusOr<MountRecord> ReadMountRecord(int fd);

// A mount's life: as long as somebody has these, the mount and the files opened in it stay, and
// whoever has them can serve it.
struct LiveMount {
  UniqueFd record;                 // a MountRecord
  UniqueFd attributes;             // an AttributeStore
  std::vector<UniqueFd> fuse_fds;  // of the reactors; the first is that of the mount itself
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_MOUNT_RECORD_H_
