// The half of the file table that knows which memory the kernel uses for a file.
#include <sys/stat.h>

#include <cerrno>

#include "fs/fuse/file_table.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

// The open that a program has begun on the inode from before may come behind the first look-up of
// the new one. Told ESTALE, the kernel looks up once more and opens what it finds.
constexpr int32_t kEnoughLookups = 2;

bool MayBeOfAnother(const AttributeStore::Memory& memory) {
  return memory.generation != 0 && memory.lookups < kEnoughLookups;
}

}  // namespace

absl::StatusOr<FileTable::MemoryFile> FileTable::MemoryFileOf(int fd) {
  struct stat memory {};
  if (fstat(fd, &memory) != 0) return ErrnoStatus(errno, "the region's memory");
  return MemoryFile{.device = memory.st_dev, .inode = memory.st_ino};
}

absl::StatusOr<int32_t> FileTable::Backing(std::size_t index, const MemoryFile& memory,
                                           const std::function<absl::StatusOr<int32_t>()>& make) {
  MutexLock lock(&mutex_);
  AttributeStore::Attributes own = store_->Get(index + 1);
  if (MayBeOfAnother(own.memory)) {
    return ErrnoStatus(ESTALE, "the file is another one now");
  }
  if (own.memory.backing_id != 0) return own.memory.backing_id;
  OXMEM_ASSIGN_OR_RETURN(own.memory.backing_id, make());
  own.memory.device = memory.device;
  own.memory.inode = memory.inode;
  store_->Set(index + 1, own);
  return own.memory.backing_id;
}

bool FileTable::LoseIf(std::size_t index, bool other, const MemoryFile& memory) {
  MutexLock lock(&mutex_);
  AttributeStore::Attributes own = store_->Get(index + 1);
  if (own.memory.backing_id == 0) return false;
  const bool is_that = own.memory.device == memory.device && own.memory.inode == memory.inode;
  if (is_that == other) return false;
  own.memory.backing_id = 0;
  own.memory.generation += 1;
  own.memory.lookups = 0;
  store_->Set(index + 1, own);
  return true;
}

bool FileTable::Lose(std::size_t index, const MemoryFile& memory) {
  return LoseIf(index, false, memory);
}

bool FileTable::LoseAllBut(std::size_t index, const MemoryFile& memory) {
  return LoseIf(index, true, memory);
}

void FileTable::NoteMemoryTime(std::size_t index, int64_t modified_ns) {
  MutexLock lock(&mutex_);
  AttributeStore::Attributes own = store_->Get(index + 1);
  if (own.memory.modified_ns == modified_ns) return;
  own.memory.modified_ns = modified_ns;
  store_->Set(index + 1, own);
  store_->set_written_ns(index + 1, modified_ns);
}

uint32_t FileTable::losses(std::size_t index) const {
  MutexLock lock(&mutex_);
  return store_->Get(index + 1).memory.generation;
}

uint32_t FileTable::LookUp(std::size_t index) {
  MutexLock lock(&mutex_);
  AttributeStore::Attributes own = store_->Get(index + 1);
  if (own.memory.lookups < kEnoughLookups) {
    own.memory.lookups += 1;
    store_->Set(index + 1, own);
  }
  return own.memory.generation;
}

bool FileTable::stale(std::size_t index) const {
  MutexLock lock(&mutex_);
  const AttributeStore::Memory memory = store_->Get(index + 1).memory;
  return memory.lookups == 0 && memory.generation != 0;
}

bool FileTable::MayOpen(std::size_t index) const {
  MutexLock lock(&mutex_);
  return !MayBeOfAnother(store_->Get(index + 1).memory);
}

}  // namespace oxmem::fs
