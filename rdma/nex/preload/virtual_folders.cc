#include "rdma/nex/preload/virtual_folders.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>

#include "rdma/nex/preload/real.h"
#include "rdma/nex/preload/virtual_paths.h"

namespace oxmem::nex {
namespace {

std::atomic<int> open_folders{0};
std::mutex mutex;
std::map<int, std::string>* folders = nullptr;  // never destroyed: calls come after destructors

std::vector<std::string> RealNames(const char* path) {
  std::vector<std::string> names;
  DIR* folder = NEX_REAL(opendir)(path);
  if (folder == nullptr) return names;
  while (const dirent* entry = NEX_REAL(readdir)(folder)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  NEX_REAL(closedir)(folder);
  return names;
}

}  // namespace

std::optional<std::vector<std::string>> ListVirtualFolder(const char* path) {
  if (auto entry = FindVirtual(path)) {
    if (!entry->folder) return std::nullopt;
    return std::move(entry->names);
  }
  // Beside the devices of the kernel.
  const auto own = FindDeviceFolder(path);
  if (!own) return std::nullopt;
  auto names = RealNames(path);
  for (const std::string& name : own->names) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  return names;
}

int OpenVirtualFolder(const char* path, int flags) {
  if (!MayBeSysfs(path)) return -1;
  const auto entry = FindVirtual(path);
  if (entry ? !entry->folder : !FindDeviceFolder(path)) return -1;
  if ((flags & O_ACCMODE) != O_RDONLY) return -1;  // the system says why not
  // Something that is a folder as well, and in which nothing can be read past this library.
  const int fd = entry ? RealOpen("/", O_PATH | O_DIRECTORY | (flags & O_CLOEXEC), 0)
                       : RealOpen(path, flags, 0);
  if (fd < 0) return -1;
  const std::lock_guard lock(mutex);
  if (folders == nullptr) folders = new std::map<int, std::string>;
  (*folders)[fd] = path;
  open_folders.store(static_cast<int>(folders->size()));
  return fd;
}

std::string VirtualFolderOf(int fd) {
  if (open_folders.load(std::memory_order_relaxed) == 0) return {};
  const std::lock_guard lock(mutex);
  const auto found = folders->find(fd);
  return found == folders->end() ? std::string() : found->second;
}

void ForgetVirtualFolder(int fd) {
  if (open_folders.load(std::memory_order_relaxed) == 0) return;
  const std::lock_guard lock(mutex);
  folders->erase(fd);
  open_folders.store(static_cast<int>(folders->size()));
}

int CopyVirtualFolder(int fd, int copy) {
  if (copy < 0 || open_folders.load(std::memory_order_relaxed) == 0) return copy;
  const std::lock_guard lock(mutex);
  if (const auto found = folders->find(fd); found != folders->end()) {
    (*folders)[copy] = std::string(found->second);
    open_folders.store(static_cast<int>(folders->size()));
  }
  return copy;
}

PathAt::PathAt(int folder, const char* path, int flags) : folder_(folder), path_(path) {
  if (open_folders.load(std::memory_order_relaxed) == 0) return;
  if (path == nullptr || path[0] == '/') return;
  if (path[0] == '\0' && (flags & AT_EMPTY_PATH) == 0) return;
  const std::string base = VirtualFolderOf(folder);
  if (!base.empty()) joined_ = CleanSysfsPath(base + "/" + path);
}

}  // namespace oxmem::nex
