#ifndef FS_FUSE_MOUNT_TABLE_H_
#define FS_FUSE_MOUNT_TABLE_H_

#include <string>
#include <vector>

namespace oxmem::fs {

struct MountTableEntry {
  std::string path;
  std::string type;
  std::string source;
  std::string device;  // "0-45": the number of the mount on this host
  // Separated by commas: of the mount, and of the file system for all its mounts.
  std::string options;
  std::string super_options;
};

// What this process sees mounted; of several at one path the topmost comes last.
std::vector<MountTableEntry> ReadMountTable();

}  // namespace oxmem::fs

#endif  // FS_FUSE_MOUNT_TABLE_H_
