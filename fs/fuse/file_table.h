#ifndef FS_FUSE_FILE_TABLE_H_
#define FS_FUSE_FILE_TABLE_H_

#include <sys/stat.h>
#include <sys/statvfs.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/fuse/attribute_store.h"
#include "fs/fuse/mount_options.h"
#include "fs/volume/volume.h"
#include "transport/base/mutex.h"

namespace oxmem::fs {

// The directory of a mount and its files: names, attributes, extended attributes. The set of files,
// their sizes and ways of access are fixed before the first reactor starts; owner, mode and times
// change by setattr and are the daemon's alone. Any thread.
class FileTable {
 public:
  static constexpr uint64_t kRootInode = 1;

  struct File {
    std::string name;
    std::string source;
    std::string provider;  // the channel's own words
    uint64_t size_bytes = 0;
    uint64_t block_bytes = 1;
    bool read_only = false;  // the region itself; see read_only() too
    bool persistent = false;
    FileMode mode = FileMode::kPageCache;
    std::string mode_reason;  // why not passthrough; empty if it is
  };

  // Inode numbers are 2, 3, … in the order of the files. `store` has an entry for the root and one
  // for each file, and their attributes already.
  FileTable(std::vector<File> files, std::unique_ptr<AttributeStore> store);
  // The attributes are those of new files.
  static absl::StatusOr<std::unique_ptr<FileTable>> Create(std::vector<File> files,
                                                           const MountOptions& options);

  std::size_t size() const { return files_.size(); }
  const File& file(std::size_t index) const { return files_[index]; }

  // Whether nothing can be written to it now: the region is read-only, or the mount is.
  bool read_only(std::size_t index) const {
    return files_[index].read_only || mount_read_only_.load(std::memory_order_relaxed);
  }
  void SetMountReadOnly(bool on) { mount_read_only_.store(on, std::memory_order_relaxed); }

  // Before the first reactor starts.
  void SetMode(std::size_t index, FileMode mode, std::string reason);

  // Files that go by passthrough. When a node is lost, its memory is too, but whoever has the file
  // open would go on with it unnoticed. So the file becomes another inode of the same number: the
  // kernel, when it looks the name up again, fails everything on the old one (but for mappings),
  // and opens of the new one get the memory that the node has then.
  struct MemoryFile {
    uint64_t device = 0;
    uint64_t inode = 0;
    bool operator==(const MemoryFile&) const = default;
  };
  static absl::StatusOr<MemoryFile> MemoryFileOf(int fd);

  // For an open: the kernel's number of this memory, which `make` gets if there is none. ESTALE
  // (ErrnoOf) if the kernel must look the name up first.
  absl::StatusOr<int32_t> Backing(std::size_t index, const MemoryFile& memory,
                                  const std::function<absl::StatusOr<int32_t>()>& make);
  // That memory is lost; or all but that. True if files on it are to be cut off.
  bool Lose(std::size_t index, const MemoryFile& memory);
  bool LoseAllBut(std::size_t index, const MemoryFile& memory);
  // How often.
  uint32_t losses(std::size_t index) const;
  // The kernel writes without us, but not without changing the time of the memory file; it asks for
  // the file's times afterwards.
  void NoteMemoryTime(std::size_t index, int64_t modified_ns);

  // The generation of an inode that the kernel looks up.
  uint32_t LookUp(std::size_t index);
  // Whether the kernel has yet to learn that the inode is another one.
  bool stale(std::size_t index) const;
  // Whether an open is of the inode that there is now; otherwise its answer is ESTALE.
  bool MayOpen(std::size_t index) const;

  // Gives the root and all files the owner, the group and the mode of new ones, as far as `options`
  // differ from these.
  void ApplyOwners(uid_t uid, gid_t gid, mode_t umask, const MountOptions& options);

  const AttributeStore& attributes() const { return *store_; }

  static uint64_t InodeOf(std::size_t index) { return index + 2; }
  // The file of an inode number, if it is one.
  std::optional<std::size_t> IndexOf(uint64_t inode) const;
  std::optional<std::size_t> Find(std::string_view name) const;

  // Of a file or of the root; false if there is no such inode.
  bool GetAttributes(uint64_t inode, struct stat* attributes) const;

  // Applies the FUSE_SET_ATTR_* bits of `to_set` but the size. Returns 0 or an errno.
  int SetAttributes(uint64_t inode, const struct stat& attributes, int to_set);

  // The file was written now.
  void Touch(std::size_t index);

  struct statvfs Statistics() const;

  // user.oxmem.* of a file, in a fixed order. `health` is the only one that changes.
  std::vector<std::pair<std::string, std::string>> ExtendedAttributes(
      std::size_t index, const std::string& health) const;

 private:
  static mode_t ModeOfNew(const std::vector<File>& files, std::size_t entry, mode_t umask);

  bool LoseIf(std::size_t index, bool other, const MemoryFile& memory);

  std::vector<File> files_;
  std::atomic<bool> mount_read_only_{false};
  mutable Mutex mutex_;                    // for Get and Set of the store
  std::unique_ptr<AttributeStore> store_;  // the root, then the files
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_FILE_TABLE_H_
