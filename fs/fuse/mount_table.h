#ifndef FS_FUSE_MOUNT_TABLE_H_
#define FS_FUSE_MOUNT_TABLE_H_

#include <string>
#include <vector>

namespace oxmem::fs {

struct MountTableEntry {
  std::string id;  // of this mount; one file system may have several
  std::string path;
  std::string type;
  std::string source;
  std::string device;  // "0-45": the number of the mount on this host
  // Separated by commas: of the mount, and of the file system for all its mounts.
  std::string options;
  std::string super_options;
};

// What a process sees mounted, this one or the one with that number; of several at one path the
// topmost comes last. Empty if there is no such process.
std::vector<MountTableEntry> ReadMountTable(const std::string& process = "self");

}  // namespace oxmem::fs

#endif  // FS_FUSE_MOUNT_TABLE_H_
