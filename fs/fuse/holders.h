#ifndef FS_FUSE_HOLDERS_H_
#define FS_FUSE_HOLDERS_H_

#include <string>

namespace oxmem::fs {

// Who keeps a mount busy, as far as this user may look: "fio (pid 12) has /mnt/oxmem/data open,
// /dev/loop0 has /mnt/oxmem/data open". Empty if nobody is found. Asks nothing of the mount.
std::string HoldersOf(const std::string& directory);

}  // namespace oxmem::fs

#endif  // FS_FUSE_HOLDERS_H_
