#include "oxmem/node/backing.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::node {
namespace {

constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

absl::StatusOr<std::span<std::byte>> Map(uint64_t size, int protection, int flags, int fd,
                                         const std::string& what) {
  void* address = mmap(nullptr, size, protection, flags, fd, 0);
  if (address == MAP_FAILED) {
    return ErrnoStatus(errno, absl::StrCat("mapping ", FormatSize(size), " of ", what));
  }
  return std::span<std::byte>(static_cast<std::byte*>(address), size);
}

// The size of a block or character device, or of a file.
absl::StatusOr<uint64_t> SizeOf(int fd, const struct stat& status, uint64_t wanted) {
  if (S_ISREG(status.st_mode)) return static_cast<uint64_t>(status.st_size);
  if (S_ISBLK(status.st_mode)) {
    uint64_t size = 0;
    if (ioctl(fd, BLKGETSIZE64, &size) != 0) return ErrnoStatus(errno, "asking for the size");
    return size;
  }
  return wanted;  // a DAX character device: mapping more than it has fails by itself
}

// A write to a mapped hole that the file system has no room for would end the process (SIGBUS), so
// the space is taken at the beginning.
absl::Status TakeSpace(int fd, uint64_t size, const std::string& path) {
  if (fallocate(fd, 0, 0, static_cast<off_t>(size)) == 0) return absl::OkStatus();
  if (errno == EOPNOTSUPP) return absl::OkStatus();  // a file system that cannot promise it
  return ErrnoStatus(errno, absl::StrCat("taking ", FormatSize(size), " for ", path));
}

absl::StatusOr<UniqueFd> OpenFile(const BackingSpec& spec) {
  const int access = spec.read_only ? O_RDONLY : O_RDWR | O_CREAT;
  UniqueFd fd(open(spec.path.c_str(), access | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, absl::StrCat("opening ", spec.path));
  struct stat status;
  if (fstat(fd.get(), &status) != 0) return ErrnoStatus(errno, spec.path);
  OXMEM_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(fd.get(), status, spec.size_bytes));
  if (size == 0 && S_ISREG(status.st_mode) && !spec.read_only) {
    if (ftruncate(fd.get(), static_cast<off_t>(spec.size_bytes)) != 0) {
      return ErrnoStatus(errno,
                         absl::StrCat("growing ", spec.path, " to ", FormatSize(spec.size_bytes)));
    }
  } else if (size < spec.size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        spec.path, " has ", FormatSize(size), ", less than the region's ",
        FormatSize(spec.size_bytes), ": give a smaller size, or grow the file with truncate -s"));
  }
  if (S_ISREG(status.st_mode) && !spec.read_only) {
    const absl::Status taken = TakeSpace(fd.get(), spec.size_bytes, spec.path);
    if (!taken.ok()) {
      // What was made for nothing goes away again.
      if (size == 0) unlink(spec.path.c_str());
      return taken;
    }
  }
  return fd;
}

// Of the pages of a file's mapping.
uint64_t PageBytes(int fd) {
  struct stat status;
  struct statfs filesystem;
  if (fstat(fd, &status) == 0 && S_ISCHR(status.st_mode)) return kHugePageBytes;  // a DAX device
  if (fstatfs(fd, &filesystem) == 0 &&
      static_cast<uint64_t>(filesystem.f_type) == HUGETLBFS_MAGIC) {
    return static_cast<uint64_t>(filesystem.f_bsize);
  }
  return static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

absl::StatusOr<UniqueFd> CreateMemoryFile(uint64_t size) {
  UniqueFd fd(memfd_create("oxmem", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return ErrnoStatus(errno, "creating a memory file");
  if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return ErrnoStatus(errno, absl::StrCat("growing a memory file to ", FormatSize(size)));
  }
  // A client that shrinks the file would turn the node's next access into SIGBUS.
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    return ErrnoStatus(errno, "sealing a memory file");
  }
  return fd;
}

}  // namespace

absl::StatusOr<Backing> Backing::Create(const BackingSpec& spec) {
  if (spec.size_bytes == 0) return absl::InvalidArgumentError("a region of 0 bytes");
  if (spec.size_bytes > uint64_t{1} << 56) {
    return absl::InvalidArgumentError(
        absl::StrCat("a region of ", FormatSize(spec.size_bytes), " is more than can be mapped"));
  }
  constexpr int kReadWrite = PROT_READ | PROT_WRITE;
  constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS;
  UniqueFd fd;
  absl::StatusOr<std::span<std::byte>> memory;
  switch (spec.kind) {
    case BackingKind::kAnonymous:
      memory = Map(spec.size_bytes, kReadWrite, kPrivate | MAP_NORESERVE, -1, "anonymous memory");
      break;
    case BackingKind::kHugePages:
      if (spec.size_bytes % kHugePageBytes != 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("a region on huge pages is a multiple of 2M, ",
                         FormatSize(spec.size_bytes), " is not"));
      }
      memory = Map(spec.size_bytes, kReadWrite, kPrivate | MAP_HUGETLB, -1, "huge pages");
      if (!memory.ok()) {
        return absl::Status(memory.status().code(),
                            absl::StrCat(memory.status().message(),
                                         " (are there enough in /proc/sys/vm/nr_hugepages?)"));
      }
      break;
    case BackingKind::kMemfd: {
      OXMEM_ASSIGN_OR_RETURN(fd, CreateMemoryFile(spec.size_bytes));
      memory =
          Map(spec.size_bytes, kReadWrite, MAP_SHARED | MAP_NORESERVE, fd.get(), "a memory file");
      break;
    }
    case BackingKind::kFile: {
      OXMEM_ASSIGN_OR_RETURN(fd, OpenFile(spec));
      memory = Map(spec.size_bytes, spec.read_only ? PROT_READ : kReadWrite, MAP_SHARED, fd.get(),
                   spec.path);
      break;
    }
  }
  if (!memory.ok()) return memory.status();
  return Backing(spec.kind, std::move(fd), *memory);
}

Backing::Backing(BackingKind kind, UniqueFd fd, std::span<std::byte> memory)
    : kind_(kind), fd_(std::move(fd)), memory_(memory) {
  if (kind_ == BackingKind::kFile) {
    guard_ = std::make_unique<MemoryGuard>(memory_, fd_.get(), 0, PageBytes(fd_.get()));
  }
}

Backing::Backing(Backing&& other) noexcept
    : kind_(other.kind_),
      fd_(std::move(other.fd_)),
      memory_(std::exchange(other.memory_, {})),
      guard_(std::move(other.guard_)) {}

Backing& Backing::operator=(Backing&& other) noexcept {
  std::swap(kind_, other.kind_);
  std::swap(fd_, other.fd_);
  std::swap(memory_, other.memory_);
  std::swap(guard_, other.guard_);
  return *this;
}

Backing::~Backing() {
  guard_.reset();
  if (!memory_.empty()) munmap(memory_.data(), memory_.size());
}

absl::Status Backing::Sync() const {
  if (kind_ != BackingKind::kFile) return absl::OkStatus();
  if (msync(memory_.data(), memory_.size(), MS_SYNC) != 0) return ErrnoStatus(errno, "msync");
  return absl::OkStatus();
}

absl::Status ParseBacking(const std::string& text, BackingSpec* spec) {
  if (text == "anonymous") {
    spec->kind = BackingKind::kAnonymous;
  } else if (text == "huge") {
    spec->kind = BackingKind::kHugePages;
  } else if (text == "memfd") {
    spec->kind = BackingKind::kMemfd;
  } else if (absl::StartsWith(text, "file:") && text.size() > 5) {
    spec->kind = BackingKind::kFile;
    spec->path = text.substr(5);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("backing \"", text, "\" is not one of memfd, anonymous, huge, file:PATH"));
  }
  return absl::OkStatus();
}

std::string FormatBacking(const BackingSpec& spec) {
  switch (spec.kind) {
    case BackingKind::kAnonymous:
      return "anonymous";
    case BackingKind::kHugePages:
      return "huge";
    case BackingKind::kMemfd:
      return "memfd";
    case BackingKind::kFile:
      return absl::StrCat("file:", spec.path);
  }
  return "";
}

}  // namespace oxmem::node
