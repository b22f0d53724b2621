#include "transport/local/mapped_memory.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/size.h"
#include "transport/base/status.h"
#include "transport/local/region_bytes.h"

namespace oxmem::transport {
namespace {

// Below this, writing zeros is quicker than the system call and the page faults that follow it.
constexpr uint64_t kPunchBytes = 256 << 10;

uint64_t RoundDown(uint64_t value, uint64_t unit) { return value / unit * unit; }
uint64_t RoundUp(uint64_t value, uint64_t unit) { return RoundDown(value + unit - 1, unit); }

}  // namespace

absl::StatusOr<std::shared_ptr<MappedMemory>> MappedMemory::Map(UniqueFd fd, uint64_t offset,
                                                                uint64_t size, bool writable) {
  struct statfs filesystem;
  if (fstatfs(fd.get(), &filesystem) != 0) return ErrnoStatus(errno, "cannot look at the memory");
  std::shared_ptr<MappedMemory> memory(new MappedMemory());
  memory->is_hugetlb_ = static_cast<uint64_t>(filesystem.f_type) == HUGETLBFS_MAGIC;
  memory->page_bytes_ = memory->is_hugetlb_ ? static_cast<uint64_t>(filesystem.f_bsize)
                                            : static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  // Huge pages come from a reserved pool: without the reservation that mmap makes, a pool that runs
  // out would be a SIGBUS later.
  const int flags = MAP_SHARED | (memory->is_hugetlb_ ? 0 : MAP_NORESERVE);
  if (offset > static_cast<uint64_t>(std::numeric_limits<off_t>::max()) ||
      size > std::numeric_limits<std::size_t>::max() / 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot map ", FormatSize(size), " of memory: too much"));
  }
  void* mapping = mmap(nullptr, size, protection, flags, fd.get(), static_cast<off_t>(offset));
  if (mapping == MAP_FAILED) {
    return ErrnoStatus(errno, absl::StrCat("cannot map ", FormatSize(size), " of memory"));
  }
  memory->data_ = static_cast<std::byte*>(mapping);
  memory->size_ = size;
  memory->offset_ = offset;
  memory->writable_ = writable;
  OrderedByOthers({memory->data_, size});
  memory->fd_ = std::move(fd);
  const int seals = fcntl(memory->fd(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    memory->guard_ = std::make_unique<MemoryGuard>(std::span(memory->data_, size), memory->fd(),
                                                   offset, memory->page_bytes_);
  }
  return memory;
}

MappedMemory::~MappedMemory() {
  guard_.reset();
  if (data_ != nullptr) munmap(data_, RoundUp(size_, page_bytes_));
}

void MappedMemory::Zero(uint64_t offset, uint64_t length) const {
  const uint64_t end = offset + length;
  uint64_t first_page = RoundUp(offset, page_bytes_);
  uint64_t last_page = RoundDown(end, page_bytes_);
  if (length < kPunchBytes || first_page >= last_page ||
      fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(offset_ + first_page),
                static_cast<off_t>(last_page - first_page)) != 0) {
    std::memset(data_ + offset, 0, length);
    return;
  }
  std::memset(data_ + offset, 0, first_page - offset);
  std::memset(data_ + last_page, 0, end - last_page);
}

void MappedMemory::Prefetch(uint64_t offset, uint64_t length) const {
  if (length == 0) return;
  const uint64_t begin = RoundDown(offset, page_bytes_);
  // The result does not matter: the pages come in when they are used.
  static_cast<void>(madvise(data_ + begin, offset + length - begin, MADV_WILLNEED));
}

absl::Status MappedMemory::AdviseHugePages() const {
  if (madvise(data_, size_, MADV_HUGEPAGE) != 0) {
    return ErrnoStatus(errno, "cannot ask for transparent huge pages");
  }
  return absl::OkStatus();
}

}  // namespace oxmem::transport
