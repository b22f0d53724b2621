// The few file calls through which librdmacm and other users of the kernel's interface reach it.
// Everything that is not theirs goes on to the C library. A program may call these before this
// library's constructors ran, so nothing here needs them.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdarg>
#include <cstring>
#include <string>

#include "rdma/nex/cm/manager.h"
#include "rdma/nex/preload/real.h"
#include "rdma/nex/preload/virtual_folders.h"
#include "rdma/nex/preload/virtual_paths.h"

namespace nex = oxmem::nex;

namespace {

int OpenAt(int folder, const char* path, int flags, mode_t mode) {
  const nex::PathAt meant(folder, path);
  if (path != nullptr && (path[0] == '/' || meant.joined())) {
    if (std::strcmp(meant.get(), nex::kCmPath) == 0) return nex::CmManager::Get()->Open(flags);
    int own = nex::OpenVirtual(meant.get(), flags);
    if (own < 0) own = nex::OpenVirtualFolder(meant.get(), flags);
    if (own >= 0) return own;
  }
  // A thread may be cancelled while it waits there, which takes the C library's own function.
  return NEX_REAL(openat)(meant.folder(), meant.get(), flags, mode);
}

int OpenAny(const char* path, int flags, mode_t mode) {
  return OpenAt(AT_FDCWD, path, flags, mode);
}

mode_t ModeOf(int flags, va_list arguments) {
  const bool creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
  return creates ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

NEX_EXPORT int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return OpenAny(path, flags, mode);
}

NEX_EXPORT int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return OpenAny(path, flags | O_LARGEFILE, mode);
}

// What the C library's headers make of open(2) in hardened programs.
extern "C" int __open_2(const char*, int);
extern "C" int __open64_2(const char*, int);
NEX_EXPORT int __open_2(const char* path, int flags) { return OpenAny(path, flags, 0); }
NEX_EXPORT int __open64_2(const char* path, int flags) {
  return OpenAny(path, flags | O_LARGEFILE, 0);
}

NEX_EXPORT int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return OpenAt(folder, path, flags, mode);
}

NEX_EXPORT int openat64(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return OpenAt(folder, path, flags | O_LARGEFILE, mode);
}

extern "C" int __openat_2(int, const char*, int);
extern "C" int __openat64_2(int, const char*, int);
NEX_EXPORT int __openat_2(int folder, const char* path, int flags) {
  return OpenAt(folder, path, flags, 0);
}
NEX_EXPORT int __openat64_2(int folder, const char* path, int flags) {
  return OpenAt(folder, path, flags | O_LARGEFILE, 0);
}

NEX_EXPORT ssize_t write(int fd, const void* buffer, std::size_t size) {
  if (nex::CmManager::Exists() && nex::CmManager::Get()->Owns(fd)) {
    // The kernel's file takes commands; a count that is written to the event fd is ours.
    if (size != sizeof(std::uint64_t)) return nex::CmManager::Get()->Command(fd, buffer, size);
  }
  static const auto real =
      reinterpret_cast<ssize_t (*)(int, const void*, std::size_t)>(nex::RealSymbol("write"));
  return real(fd, buffer, size);
}

NEX_EXPORT int close(int fd) {
  if (nex::CmManager::Exists() && nex::CmManager::Get()->Owns(fd)) {
    nex::CmManager::Get()->Close(fd);
    return 0;
  }
  nex::ForgetVirtualFolder(fd);
  static const auto real = reinterpret_cast<int (*)(int)>(nex::RealSymbol("close"));
  return real(fd);
}

NEX_EXPORT int dup(int fd) noexcept { return nex::CopyVirtualFolder(fd, NEX_REAL(dup)(fd)); }

NEX_EXPORT int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  const int result = NEX_REAL(fcntl)(fd, command, argument);
  const bool copies = command == F_DUPFD || command == F_DUPFD_CLOEXEC;
  return copies ? nex::CopyVirtualFolder(fd, result) : result;
}

NEX_EXPORT int fcntl64(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* const argument = va_arg(arguments, void*);
  va_end(arguments);
  return fcntl(fd, command, argument);
}

NEX_EXPORT int fstat(int fd, struct stat* out) {
  if (nex::CmManager::Exists() && nex::CmManager::Get()->Owns(fd)) {
    nex::FillDeviceNode(out);
    // librdmacm compares it with that of the kernel's, where there is one.
    out->st_rdev = nex::KernelManager::Device();
    return 0;
  }
  const std::string folder = nex::VirtualFolderOf(fd);
  if (!folder.empty() && nex::StatVirtual(folder.c_str(), out)) return 0;
  return static_cast<int>(syscall(SYS_fstat, fd, out));
}

static_assert(sizeof(struct stat) == sizeof(struct stat64));
NEX_EXPORT int fstat64(int fd, struct stat64* out) {
  return fstat(fd, reinterpret_cast<struct stat*>(out));
}
