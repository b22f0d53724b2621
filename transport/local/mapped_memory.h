#ifndef TRANSPORT_LOCAL_MAPPED_MEMORY_H_
#define TRANSPORT_LOCAL_MAPPED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/memory_guard.h"
#include "transport/base/unique_fd.h"

namespace oxmem::transport {

// A region of a file (a memfd, a tmpfs or hugetlbfs file) mapped shared. Owns the mapping and the
// descriptor. Immutable; several channels, each on its own thread, may share one.
class MappedMemory {
 public:
  // Maps [offset, offset + size) of the file, whose size the caller has checked. `size` is not
  // zero, `offset` is a multiple of the file's page size.
  static absl::StatusOr<std::shared_ptr<MappedMemory>> Map(UniqueFd fd, uint64_t offset,
                                                           uint64_t size, bool writable);
  ~MappedMemory();
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  bool writable() const { return writable_; }
  int fd() const { return fd_.get(); }
  uint64_t offset() const { return offset_; }
  // Of the file: 4 KiB, or that of the huge pages behind it.
  uint64_t page_bytes() const { return page_bytes_; }
  // On hugetlbfs, whose files the kernel does not take as backing for FUSE passthrough.
  bool is_hugetlb() const { return is_hugetlb_; }

  // Makes [offset, offset + length) of the region zero and gives whole pages of a long range back
  // to the system. The range lies within the region, which is writable.
  void Zero(uint64_t offset, uint64_t length) const;

  // Asks the kernel to bring the range in (from swap or a file). Never fails: it is a hint.
  void Prefetch(uint64_t offset, uint64_t length) const;

  // As MemoryGuard: before and after an access, for memory whose file others may cut short. What
  // is sealed against that is always all there.
  bool Admits(uint64_t offset, uint64_t length) const {
    return guard_ == nullptr || guard_->Admits(offset, length);
  }
  bool Holds(uint64_t offset, uint64_t length) const {
    return guard_ == nullptr || guard_->Holds(offset, length);
  }

  // Asks for transparent huge pages, which the kernel gives only where shmem_enabled allows it.
  absl::Status AdviseHugePages() const;

 private:
  MappedMemory() = default;

  UniqueFd fd_;
  uint64_t offset_ = 0;
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  uint64_t page_bytes_ = 0;
  bool writable_ = false;
  bool is_hugetlb_ = false;
  std::unique_ptr<MemoryGuard> guard_;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_MAPPED_MEMORY_H_
