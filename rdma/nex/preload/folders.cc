// Reading folders that are there because of nex0, or in which it is listed, by the C library's
// calls. A DIR of such a folder is an object of ours, so every call that takes one is here.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "rdma/nex/preload/real.h"
#include "rdma/nex/preload/virtual_folders.h"
#include "rdma/nex/preload/virtual_paths.h"

namespace nex = oxmem::nex;

namespace {

struct Folder {
  int fd = -1;
  std::vector<std::string> names;
  std::size_t next = 0;
  dirent entry{};
};

static_assert(sizeof(dirent) == sizeof(dirent64));

std::atomic<int> open_folders{0};  // so that other folders cost one load
std::mutex mutex;
std::vector<std::unique_ptr<Folder>>* folders = nullptr;

Folder* Find(DIR* handle) {
  if (open_folders.load() == 0) return nullptr;
  const std::lock_guard lock(mutex);
  for (const auto& folder : *folders) {
    if (reinterpret_cast<DIR*>(folder.get()) == handle) return folder.get();
  }
  return nullptr;
}

// The descriptor is the folder's from here on.
DIR* Open(int fd, std::vector<std::string> names) {
  auto folder = std::make_unique<Folder>();
  folder->fd = fd;
  folder->names = std::move(names);
  folder->names.insert(folder->names.begin(), {".", ".."});
  auto* handle = reinterpret_cast<DIR*>(folder.get());
  const std::lock_guard lock(mutex);
  if (folders == nullptr) folders = new std::vector<std::unique_ptr<Folder>>;
  folders->push_back(std::move(folder));
  open_folders.store(static_cast<int>(folders->size()));
  return handle;
}

dirent* Next(Folder* folder) {
  if (folder->next == folder->names.size()) return nullptr;
  const std::string& name = folder->names[folder->next++];
  folder->entry = {};
  folder->entry.d_ino = 1;
  folder->entry.d_off = static_cast<off_t>(folder->next);
  folder->entry.d_reclen = sizeof folder->entry;
  folder->entry.d_type = DT_UNKNOWN;
  std::memcpy(folder->entry.d_name, name.c_str(),
              std::min(name.size() + 1, sizeof folder->entry.d_name - 1));
  return &folder->entry;
}

}  // namespace

NEX_EXPORT DIR* opendir(const char* path) {
  auto names = nex::ListVirtualFolder(path);
  if (!names) {
    if (!nex::FindVirtual(path)) return NEX_REAL(opendir)(path);
    errno = ENOTDIR;
    return nullptr;
  }
  const int fd = nex::OpenVirtualFolder(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  return fd < 0 ? nullptr : Open(fd, std::move(*names));
}

NEX_EXPORT DIR* fdopendir(int fd) {
  const std::string path = nex::VirtualFolderOf(fd);
  if (path.empty()) return NEX_REAL(fdopendir)(fd);
  auto names = nex::ListVirtualFolder(path.c_str());
  if (names) return Open(fd, std::move(*names));
  errno = EBADF;
  return nullptr;
}

NEX_EXPORT int closedir(DIR* handle) {
  Folder* folder = Find(handle);
  if (folder == nullptr) return NEX_REAL(closedir)(handle);
  const int fd = folder->fd;
  {
    const std::lock_guard lock(mutex);
    std::erase_if(*folders, [&](const auto& known) { return known.get() == folder; });
    open_folders.store(static_cast<int>(folders->size()));
  }
  return close(fd);
}

NEX_EXPORT dirent* readdir(DIR* handle) {
  Folder* folder = Find(handle);
  return folder == nullptr ? NEX_REAL(readdir)(handle) : Next(folder);
}

NEX_EXPORT dirent64* readdir64(DIR* handle) {
  Folder* folder = Find(handle);
  if (folder == nullptr) return NEX_REAL(readdir64)(handle);
  return reinterpret_cast<dirent64*>(Next(folder));
}

NEX_EXPORT int dirfd(DIR* handle) noexcept {
  const Folder* folder = Find(handle);
  return folder == nullptr ? NEX_REAL(dirfd)(handle) : folder->fd;
}

NEX_EXPORT void rewinddir(DIR* handle) noexcept {
  Folder* folder = Find(handle);
  if (folder == nullptr) return NEX_REAL(rewinddir)(handle);
  folder->next = 0;
}

NEX_EXPORT long telldir(DIR* handle) noexcept {
  Folder* folder = Find(handle);
  return folder == nullptr ? NEX_REAL(telldir)(handle) : static_cast<long>(folder->next);
}

NEX_EXPORT void seekdir(DIR* handle, long position) noexcept {
  Folder* folder = Find(handle);
  if (folder == nullptr) return NEX_REAL(seekdir)(handle, position);
  const auto wanted = static_cast<std::size_t>(std::max(position, 0L));
  folder->next = std::min(wanted, folder->names.size());
}

// The C library's own scandir and glob do not come by the functions above.

NEX_EXPORT int scandir(const char* path, dirent*** list, int (*filter)(const dirent*),
                       int (*compare)(const dirent**, const dirent**)) {
  const auto names = nex::ListVirtualFolder(path);
  if (!names) return NEX_REAL(scandir)(path, list, filter, compare);
  DIR* handle = opendir(path);
  if (handle == nullptr) return -1;
  std::vector<dirent*> found;
  while (const dirent* entry = readdir(handle)) {
    if (filter != nullptr && filter(entry) == 0) continue;
    auto* copy = static_cast<dirent*>(std::malloc(sizeof *entry));  // the program frees it
    *copy = *entry;
    found.push_back(copy);
  }
  closedir(handle);
  if (compare != nullptr) {
    std::sort(found.begin(), found.end(), [compare](const dirent* a, const dirent* b) {
      return compare(&a, &b) < 0;
    });
  }
  *list = static_cast<dirent**>(std::malloc((found.size() + 1) * sizeof(dirent*)));
  std::copy(found.begin(), found.end(), *list);
  return static_cast<int>(found.size());
}

NEX_EXPORT int scandir64(const char* path, dirent64*** list, int (*filter)(const dirent64*),
                         int (*compare)(const dirent64**, const dirent64**)) {
  if (!nex::ListVirtualFolder(path)) return NEX_REAL(scandir64)(path, list, filter, compare);
  return scandir(path, reinterpret_cast<dirent***>(list),
                 reinterpret_cast<int (*)(const dirent*)>(filter),
                 reinterpret_cast<int (*)(const dirent**, const dirent**)>(compare));
}

NEX_EXPORT int glob(const char* pattern, int flags, int (*on_error)(const char*, int),
                    glob_t* found) noexcept {
  if (!nex::MayBeSysfs(pattern) || (flags & GLOB_ALTDIRFUNC) != 0) {
    return NEX_REAL(glob)(pattern, flags, on_error, found);
  }
  found->gl_opendir = [](const char* path) { return static_cast<void*>(opendir(path)); };
  found->gl_readdir = [](void* handle) { return readdir(static_cast<DIR*>(handle)); };
  found->gl_closedir = [](void* handle) { closedir(static_cast<DIR*>(handle)); };
  found->gl_stat = [](const char* path, struct stat* out) { return stat(path, out); };
  found->gl_lstat = [](const char* path, struct stat* out) { return lstat(path, out); };
  return NEX_REAL(glob)(pattern, flags | GLOB_ALTDIRFUNC, on_error, found);
}

NEX_EXPORT int glob64(const char* pattern, int flags, int (*on_error)(const char*, int),
                      glob64_t* found) noexcept {
  if (!nex::MayBeSysfs(pattern)) return NEX_REAL(glob64)(pattern, flags, on_error, found);
  return glob(pattern, flags, on_error, reinterpret_cast<glob_t*>(found));
}
