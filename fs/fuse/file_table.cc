#include "fs/fuse/file_table.h"

#include <time.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/fuse/libfuse.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

constexpr int64_t kNanosecondsPerSecond = 1000000000;

int64_t WallClockNs() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now.tv_sec * kNanosecondsPerSecond + now.tv_nsec;
}

timespec ToTimespec(int64_t ns) {
  return {.tv_sec = ns / kNanosecondsPerSecond, .tv_nsec = ns % kNanosecondsPerSecond};
}

bool Later(const timespec& a, const timespec& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

}  // namespace

FileTable::FileTable(std::vector<File> files, std::unique_ptr<AttributeStore> store)
    : files_(std::move(files)), store_(std::move(store)) {
  OXMEM_CHECK(store_->size() == files_.size() + 1);
}

absl::StatusOr<std::unique_ptr<FileTable>> FileTable::Create(std::vector<File> files,
                                                             const MountOptions& options) {
  OXMEM_ASSIGN_OR_RETURN(auto store, AttributeStore::Create(files.size() + 1));
  const timespec now = ToTimespec(WallClockNs());
  for (std::size_t i = 0; i < store->size(); ++i) {
    store->Set(i, {.mode = ModeOfNew(files, i, options.umask),
                   .uid = options.uid,
                   .gid = options.gid,
                   .accessed = now,
                   .modified = now,
                   .changed = now});
  }
  auto table = std::make_unique<FileTable>(std::move(files), std::move(store));
  table->SetMountReadOnly(options.read_only);
  return table;
}

mode_t FileTable::ModeOfNew(const std::vector<File>& files, std::size_t entry, mode_t umask) {
  const mode_t all = entry == 0 ? S_IFDIR | 0755 : S_IFREG | 0666;
  const bool read_only = entry != 0 && files[entry - 1].read_only;
  return all & ~umask & ~mode_t{read_only ? 0222u : 0u};
}

void FileTable::ApplyOwners(uid_t uid, gid_t gid, mode_t umask, const MountOptions& options) {
  const timespec now = ToTimespec(WallClockNs());
  MutexLock lock(&mutex_);
  for (std::size_t i = 0; i < store_->size(); ++i) {
    AttributeStore::Attributes own = store_->Get(i);
    if (uid != options.uid) own.uid = options.uid;
    if (gid != options.gid) own.gid = options.gid;
    if (umask != options.umask) own.mode = ModeOfNew(files_, i, options.umask);
    own.changed = now;
    store_->Set(i, own);
  }
}

void FileTable::SetMode(std::size_t index, FileMode mode, std::string reason) {
  files_[index].mode = mode;
  files_[index].mode_reason = std::move(reason);
}

std::optional<std::size_t> FileTable::IndexOf(uint64_t inode) const {
  if (inode < 2 || inode - 2 >= files_.size()) return std::nullopt;
  return inode - 2;
}

std::optional<std::size_t> FileTable::Find(std::string_view name) const {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (files_[i].name == name) return i;
  }
  return std::nullopt;
}

bool FileTable::GetAttributes(uint64_t inode, struct stat* attributes) const {
  const auto index = IndexOf(inode);
  if (!index.has_value() && inode != kRootInode) return false;
  *attributes = {};
  attributes->st_ino = inode;
  attributes->st_nlink = index.has_value() ? 1 : 2;
  attributes->st_blksize = 4096;
  const std::size_t entry = index.has_value() ? *index + 1 : 0;
  AttributeStore::Attributes own;
  {
    MutexLock lock(&mutex_);
    own = store_->Get(entry);
  }
  attributes->st_mode = own.mode;
  attributes->st_uid = own.uid;
  attributes->st_gid = own.gid;
  attributes->st_atim = own.accessed;
  attributes->st_mtim = own.modified;
  attributes->st_ctim = own.changed;
  if (!index.has_value()) return true;
  attributes->st_size = static_cast<off_t>(files_[*index].size_bytes);
  attributes->st_blocks = static_cast<blkcnt_t>((files_[*index].size_bytes + 511) / 512);
  const int64_t written_ns = store_->written_ns(entry);
  if (written_ns == 0) return true;  // not since the times were set, which may be before 1970
  const timespec written = ToTimespec(written_ns);
  if (Later(written, own.modified)) attributes->st_mtim = written;
  if (Later(written, own.changed)) attributes->st_ctim = written;
  return true;
}

int FileTable::SetAttributes(uint64_t inode, const struct stat& attributes, int to_set) {
  const auto index = IndexOf(inode);
  if (!index.has_value() && inode != kRootInode) return ENOENT;
  const timespec now = ToTimespec(WallClockNs());
  const std::size_t entry = index.has_value() ? *index + 1 : 0;
  MutexLock lock(&mutex_);
  AttributeStore::Attributes own = store_->Get(entry);
  if ((to_set & FUSE_SET_ATTR_MODE) != 0) {
    own.mode = (own.mode & S_IFMT) | (attributes.st_mode & 07777);
  }
  if ((to_set & FUSE_SET_ATTR_UID) != 0) own.uid = attributes.st_uid;
  if ((to_set & FUSE_SET_ATTR_GID) != 0) own.gid = attributes.st_gid;
  if ((to_set & FUSE_SET_ATTR_ATIME) != 0) own.accessed = attributes.st_atim;
  if ((to_set & FUSE_SET_ATTR_ATIME_NOW) != 0) own.accessed = now;
  if ((to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) != 0) {
    own.modified = (to_set & FUSE_SET_ATTR_MTIME_NOW) != 0 ? now : attributes.st_mtim;
    // An older time than that of the last write is what the caller wants.
    store_->set_written_ns(entry, 0);
  }
  own.changed = now;
  store_->Set(entry, own);
  return 0;
}

void FileTable::Touch(std::size_t index) { store_->set_written_ns(index + 1, WallClockNs()); }

struct statvfs FileTable::Statistics() const {
  struct statvfs statistics {};
  statistics.f_bsize = 4096;
  statistics.f_frsize = 4096;
  for (const File& file : files_) statistics.f_blocks += (file.size_bytes + 4095) / 4096;
  // Every byte is given to a file already: nothing is free, and no file can be made.
  statistics.f_files = files_.size() + 1;
  statistics.f_namemax = 255;
  return statistics;
}

std::vector<std::pair<std::string, std::string>> FileTable::ExtendedAttributes(
    std::size_t index, const std::string& health) const {
  const File& file = files_[index];
  std::vector<std::pair<std::string, std::string>> all = {
      {"user.oxmem.source", file.source},
      {"user.oxmem.provider", file.provider},
      {"user.oxmem.size", absl::StrCat(file.size_bytes)},
      {"user.oxmem.block_size", absl::StrCat(file.block_bytes)},
      {"user.oxmem.dax", FileModeName(file.mode)},
      {"user.oxmem.read_only", read_only(index) ? "yes" : "no"},
      {"user.oxmem.persistent", file.persistent ? "yes" : "no"},
      {"user.oxmem.health", health},
  };
  if (!file.mode_reason.empty()) all.emplace_back("user.oxmem.dax_reason", file.mode_reason);
  if (file.mode == FileMode::kPassthrough) {
    all.emplace_back("user.oxmem.memory_losses", absl::StrCat(losses(index)));
  }
  return all;
}

}  // namespace oxmem::fs
