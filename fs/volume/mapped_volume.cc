#include "fs/volume/mapped_volume.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

// Below this, clearing memory is cheaper than the system call that gives pages back.
constexpr uint64_t kPunchBytes = uint64_t{256} << 10;

}  // namespace

absl::Status MappedVolume::Mappable(const VolumeInfo& info) {
  if (!info.local_memory.has_value()) {
    return absl::FailedPreconditionError(
        "it is not one piece of memory of this host that could be mapped");
  }
  const transport::LocalMemory& memory = *info.local_memory;
  const int seals = fcntl(memory.fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return absl::FailedPreconditionError("the region's memory is not sealed against shrinking");
  }
  struct stat attributes {};
  if (fstat(memory.fd, &attributes) != 0) return ErrnoStatus(errno, "region memory");
  if (!RangeFits(memory.offset, info.size_bytes, static_cast<uint64_t>(attributes.st_size))) {
    return absl::FailedPreconditionError(
        absl::StrCat("the region's memory file has ", attributes.st_size, " bytes, too few for ",
                     FormatSize(info.size_bytes), " at ", memory.offset));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Volume>> MappedVolume::Create(std::unique_ptr<Volume> under) {
  const VolumeInfo info = under->info();
  OXMEM_RETURN_IF_ERROR(Annotate(Mappable(info), under->name()));
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t skip = info.local_memory->offset % page;
  const std::size_t bytes = info.size_bytes + skip;
  const int protection = info.read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  void* mapping = mmap(nullptr, bytes, protection, MAP_SHARED, info.local_memory->fd,
                       static_cast<off_t>(info.local_memory->offset - skip));
  if (mapping == MAP_FAILED) return ErrnoStatus(errno, absl::StrCat(under->name(), ": mmap"));
  // Given by the system as it is used, as the pages themselves are.
  auto* mapped = static_cast<uint64_t*>(std::calloc(bytes / page / 64 + 2, sizeof(uint64_t)));
  if (mapped == nullptr) {
    munmap(mapping, bytes);
    return absl::ResourceExhaustedError(absl::StrCat(under->name(), ": no memory to map it"));
  }
  return std::unique_ptr<Volume>(
      new MappedVolume(std::move(under), mapping, bytes, skip, page, mapped));
}

MappedVolume::MappedVolume(std::unique_ptr<Volume> under, void* mapping, std::size_t mapping_bytes,
                           std::size_t skip_bytes, std::size_t page_bytes, uint64_t* mapped)
    : ForwardingVolume(std::move(under)),
      mapping_(mapping),
      mapping_bytes_(mapping_bytes),
      page_bytes_(page_bytes),
      memory_(static_cast<std::byte*>(mapping) + skip_bytes),
      skip_bytes_(skip_bytes),
      mapped_(mapped) {}

MappedVolume::~MappedVolume() {
  munmap(mapping_, mapping_bytes_);
  std::free(mapped_);
}

// Whoever copies the bytes out finds them mapped: where the kernel would have to map a page for a
// process that is being killed, it fails the request instead of giving it to the next daemon. Pages
// that were mapped once stay so but for what is punched out, or what the system takes back.
void MappedVolume::MapPages(uint64_t offset, uint64_t length) {
  if (length == 0) return;
  const uint64_t begin = skip_bytes_ + offset;
  const uint64_t last = (begin + length - 1) / page_bytes_;
  for (uint64_t page = begin / page_bytes_; page <= last; ++page) {
    uint64_t& word = mapped_[page / 64];
    const uint64_t bit = uint64_t{1} << page % 64;
    if ((word & bit) != 0) continue;
    (void)*static_cast<const volatile std::byte*>(memory_ - skip_bytes_ + page * page_bytes_);
    word |= bit;
  }
}

void MappedVolume::ForgetPages(uint64_t offset, uint64_t length) {
  const uint64_t last = (skip_bytes_ + offset + length - 1) / page_bytes_;
  for (uint64_t page = (skip_bytes_ + offset) / page_bytes_; page <= last; ++page) {
    // A word at a time where it is forgotten whole: a terabyte has many pages.
    if (page % 64 == 0 && page + 63 <= last) {
      if (mapped_[page / 64] != 0) mapped_[page / 64] = 0;
      page += 63;
    } else {
      mapped_[page / 64] &= ~(uint64_t{1} << page % 64);
    }
  }
}

void MappedVolume::Zero(uint64_t offset, uint64_t length) {
  // Where the region starts at 0 of its file, offsets are the file's and whole pages can go back.
  if (length >= kPunchBytes && info().local_memory->offset == 0 &&
      fallocate(info().local_memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                static_cast<off_t>(offset), static_cast<off_t>(length)) == 0) {
    ForgetPages(offset, length);
    return;
  }
  std::memset(memory_ + offset, 0, length);
}

void MappedVolume::Start(IoOp& op) {
  using transport::Code;
  if (op.kind == IoKind::kFlush) {
    beneath().Start(op);
    return;
  }
  if (!RangeFits(op.offset, op.length, info().size_bytes)) {
    op.Finish(Code::kOutOfRange, 0);
    return;
  }
  if (op.is_write() && info().read_only) {
    op.Finish(Code::kReadOnly, 0);
    return;
  }
  if (op.kind == IoKind::kRead) {
    op.data = memory_ + op.offset;
    MapPages(op.offset, op.length);
  } else if (op.kind == IoKind::kZero) {
    Zero(op.offset, op.length);
  } else if (op.length != 0) {
    std::memcpy(memory_ + op.offset, op.buffer, op.length);
  }
  op.Finish(Code::kOk, 0);
}

}  // namespace oxmem::fs
