#ifndef RDMA_NEX_PRELOAD_VIRTUAL_FOLDERS_H_
#define RDMA_NEX_PRELOAD_VIRTUAL_FOLDERS_H_

#include <fcntl.h>

#include <optional>
#include <string>
#include <vector>

namespace oxmem::nex {

// Descriptors of folders in which nex0 is shown, so that paths relative to them can be followed.
// Thread-safe. Asking about any other descriptor costs one load.

// A descriptor of a folder that nex0 has, or where it is listed; -1: the path is neither.
int OpenVirtualFolder(const char* path, int flags);
// What is listed in a folder of that kind, without . and ..
std::optional<std::vector<std::string>> ListVirtualFolder(const char* path);
// The folder of a descriptor; empty: not one of these.
std::string VirtualFolderOf(int fd);
void ForgetVirtualFolder(int fd);
// `copy` stands for what `fd` stands for. Returns `copy`.
int CopyVirtualFolder(int fd, int copy);

// The path that a call means by a folder's descriptor and a path: the path itself but for relative
// ones behind one of these descriptors, and for the folder itself (AT_EMPTY_PATH).
class PathAt {
 public:
  PathAt(int folder, const char* path, int flags = 0);
  const char* get() const { return joined() ? joined_.c_str() : path_; }
  bool joined() const { return !joined_.empty(); }
  // What to give to the system with get().
  int folder() const { return joined() ? AT_FDCWD : folder_; }

 private:
  const int folder_;
  const char* const path_;
  std::string joined_;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_PRELOAD_VIRTUAL_FOLDERS_H_
