// Calls on paths, for what nex0 shows of itself in the file system. All else goes to the kernel.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "rdma/nex/preload/real.h"
#include "rdma/nex/preload/virtual_folders.h"
#include "rdma/nex/preload/virtual_paths.h"

namespace nex = oxmem::nex;

namespace {

int StatAt(int folder, const char* path, struct stat* out, int flags) {
  const nex::PathAt meant(folder, path, flags);
  if (nex::StatVirtual(meant.get(), out)) return 0;
  return static_cast<int>(syscall(SYS_newfstatat, meant.folder(), meant.get(), out, flags));
}

// Its layout is that of struct stat where files are of 64 bits anyway.
static_assert(sizeof(struct stat) == sizeof(struct stat64));
struct stat* Plain(struct stat64* out) {
  return reinterpret_cast<struct stat*>(out);
}

int Access(const char* path, int mode) {
  struct stat unused;
  if (!nex::StatVirtual(path, &unused)) return nex::RealAccess(path, mode);
  if ((mode & W_OK) == 0 || nex::IsVerbsNode(path)) return 0;
  errno = EACCES;
  return -1;
}

}  // namespace

NEX_EXPORT int stat(const char* path, struct stat* out) noexcept {
  return StatAt(AT_FDCWD, path, out, 0);
}

NEX_EXPORT int stat64(const char* path, struct stat64* out) noexcept {
  return StatAt(AT_FDCWD, path, Plain(out), 0);
}

NEX_EXPORT int lstat(const char* path, struct stat* out) noexcept {
  return StatAt(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}

NEX_EXPORT int lstat64(const char* path, struct stat64* out) noexcept {
  return StatAt(AT_FDCWD, path, Plain(out), AT_SYMLINK_NOFOLLOW);
}

NEX_EXPORT int fstatat(int folder, const char* path, struct stat* out, int flags) noexcept {
  return StatAt(folder, path, out, flags);
}

NEX_EXPORT int fstatat64(int folder, const char* path, struct stat64* out, int flags) noexcept {
  return StatAt(folder, path, Plain(out), flags);
}

NEX_EXPORT int statx(int folder, const char* path, int flags, unsigned mask,
                     struct statx* out) noexcept {
  struct stat plain;
  const nex::PathAt meant(folder, path, flags);
  if (!nex::StatVirtual(meant.get(), &plain)) {
    return static_cast<int>(syscall(SYS_statx, meant.folder(), meant.get(), flags, mask, out));
  }
  std::memset(out, 0, sizeof *out);
  out->stx_mask = STATX_TYPE | STATX_MODE | STATX_NLINK | STATX_SIZE | STATX_INO;
  out->stx_ino = plain.st_ino;
  out->stx_mode = static_cast<std::uint16_t>(plain.st_mode);
  out->stx_nlink = static_cast<std::uint32_t>(plain.st_nlink);
  out->stx_size = static_cast<std::uint64_t>(plain.st_size);
  out->stx_blksize = static_cast<std::uint32_t>(plain.st_blksize);
  out->stx_rdev_major = major(plain.st_rdev);
  out->stx_rdev_minor = minor(plain.st_rdev);
  return 0;
}

NEX_EXPORT int access(const char* path, int mode) noexcept { return Access(path, mode); }

NEX_EXPORT int faccessat(int folder, const char* path, int mode, int flags) noexcept {
  struct stat unused;
  const nex::PathAt meant(folder, path, flags);
  if (nex::StatVirtual(meant.get(), &unused)) return Access(meant.get(), mode);
  return NEX_REAL(faccessat)(meant.folder(), meant.get(), mode, flags);
}

// Nothing of nex0 is a link.
NEX_EXPORT ssize_t readlink(const char* path, char* out, std::size_t size) noexcept {
  struct stat unused;
  if (!nex::StatVirtual(path, &unused)) return NEX_REAL(readlink)(path, out, size);
  errno = EINVAL;
  return -1;
}

NEX_EXPORT ssize_t readlinkat(int folder, const char* path, char* out, std::size_t size) noexcept {
  struct stat unused;
  const nex::PathAt meant(folder, path);
  if (!nex::StatVirtual(meant.get(), &unused)) {
    return NEX_REAL(readlinkat)(meant.folder(), meant.get(), out, size);
  }
  errno = EINVAL;
  return -1;
}

NEX_EXPORT char* realpath(const char* path, char* out) noexcept {
  if (!nex::FindVirtual(path)) return NEX_REAL(realpath)(path, out);
  const std::string clean = nex::CleanSysfsPath(path);
  if (clean.size() >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return nullptr;
  }
  if (out == nullptr) return strdup(clean.c_str());
  std::memcpy(out, clean.c_str(), clean.size() + 1);
  return out;
}

// What the C library's headers make of it in hardened programs.
extern "C" char* __realpath_chk(const char*, char*, std::size_t) noexcept;
NEX_EXPORT char* __realpath_chk(const char* path, char* out, std::size_t size) noexcept {
  if (!nex::FindVirtual(path)) return NEX_REAL(__realpath_chk)(path, out, size);
  return realpath(path, out);
}

NEX_EXPORT char* canonicalize_file_name(const char* path) noexcept {
  return realpath(path, nullptr);
}

NEX_EXPORT FILE* fopen(const char* path, const char* mode) {
  const int fd = mode != nullptr && mode[0] == 'r' ? nex::OpenVirtual(path, 0) : -1;
  return fd >= 0 ? fdopen(fd, mode) : NEX_REAL(fopen)(path, mode);
}

NEX_EXPORT FILE* fopen64(const char* path, const char* mode) {
  const int fd = mode != nullptr && mode[0] == 'r' ? nex::OpenVirtual(path, 0) : -1;
  return fd >= 0 ? fdopen(fd, mode) : NEX_REAL(fopen64)(path, mode);
}
