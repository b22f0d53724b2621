#ifndef FS_FUSE_ATTRIBUTE_STORE_H_
#define FS_FUSE_ATTRIBUTE_STORE_H_

#include <sys/types.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "transport/base/unique_fd.h"

namespace oxmem::fs {

// Owner, mode, times and memory of a mount's root and files, in a memory file: they stay when the
// process that serves the mount dies at any moment, and the next one goes on with them.
//
// Set and Get of one entry are not called at once; the write times take any thread. Who serves the
// mount has claimed the store, so that no two processes use it at the same time.
class AttributeStore {
 public:
  // The memory that the kernel uses itself for a file, and the inode it knows the file by.
  struct Memory {
    int32_t backing_id = 0;  // the kernel's number, as long as the mount lives; 0: none now
    uint64_t device = 0;     // of the memory file behind it
    uint64_t inode = 0;
    uint32_t generation = 0;  // of our inode; another one for other memory
    int32_t lookups = 0;      // of this generation by the kernel; not counted further than 2
    int64_t modified_ns = 0;  // of the memory file, when it was looked at last

    bool operator==(const Memory&) const = default;
  };

  struct Attributes {
    mode_t mode = 0;
    uid_t uid = 0;
    gid_t gid = 0;
    timespec accessed{};
    timespec modified{};
    timespec changed{};
    Memory memory;
  };

  // Claimed.
  static absl::StatusOr<std::unique_ptr<AttributeStore>> Create(std::size_t entries);
  // One that another process made, and may use still; an error if it has another number of entries.
  static absl::StatusOr<std::unique_ptr<AttributeStore>> Adopt(UniqueFd fd, std::size_t entries);
  ~AttributeStore();
  AttributeStore(const AttributeStore&) = delete;
  AttributeStore& operator=(const AttributeStore&) = delete;

  // kAborted if another process has claimed it. Ends with Release, and with the process; also when
  // this process closes any other descriptor of the memory file.
  absl::Status Claim() const;
  void Release() const;

  int fd() const { return fd_.get(); }
  std::size_t size() const { return entries_; }

  Attributes Get(std::size_t entry) const;
  void Set(std::size_t entry, const Attributes& attributes);

  // When the file was last written, in ns on the wall clock; 0 for never.
  int64_t written_ns(std::size_t entry) const;
  void set_written_ns(std::size_t entry, int64_t ns);

 private:
  using Word = std::atomic<int64_t>;
  static_assert(Word::is_always_lock_free);

  AttributeStore(UniqueFd fd, void* memory, std::size_t entries);
  // The words of an entry: which copy holds, the time of the last write, two copies.
  std::span<Word> WordsOf(std::size_t entry) const;

  UniqueFd fd_;
  Word* words_;
  std::size_t entries_;
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_ATTRIBUTE_STORE_H_
