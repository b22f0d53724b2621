// Reading folders that are there only because of nex0, by the C library's calls. A DIR of such a
// folder is an object of ours, so every call that takes one is here.
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "rdma/nex/preload/real.h"
#include "rdma/nex/preload/virtual_paths.h"

namespace nex = oxmem::nex;

namespace {

struct Folder {
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

DIR* Open(std::vector<std::string> names) {
  auto folder = std::make_unique<Folder>();
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
  auto entry = nex::FindVirtual(path);
  if (!entry) return NEX_REAL(opendir)(path);
  if (entry->folder) return Open(std::move(entry->names));
  errno = ENOTDIR;
  return nullptr;
}

NEX_EXPORT int closedir(DIR* handle) {
  Folder* folder = Find(handle);
  if (folder == nullptr) return NEX_REAL(closedir)(handle);
  const std::lock_guard lock(mutex);
  std::erase_if(*folders, [&](const auto& known) { return known.get() == folder; });
  open_folders.store(static_cast<int>(folders->size()));
  return 0;
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
  if (Find(handle) == nullptr) return NEX_REAL(dirfd)(handle);
  errno = ENOTSUP;  // it has none, which POSIX allows
  return -1;
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
