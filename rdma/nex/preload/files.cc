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
#include "rdma/nex/preload/virtual_paths.h"

namespace nex = oxmem::nex;

namespace {

constexpr const char* kCmPath = "/dev/infiniband/rdma_cm";

int OpenAny(const char* path, int flags, mode_t mode) {
  if (path != nullptr) {
    if (std::strcmp(path, kCmPath) == 0) return nex::CmManager::Get()->Open(flags);
    const int attribute = nex::OpenVirtual(path, flags);
    if (attribute >= 0) return attribute;
  }
  return nex::RealOpen(path, flags, mode);
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
  static const auto real = reinterpret_cast<int (*)(int)>(nex::RealSymbol("close"));
  return real(fd);
}

NEX_EXPORT int fstat(int fd, struct stat* out) {
  if (nex::CmManager::Exists() && nex::CmManager::Get()->Owns(fd)) {
    nex::FillDeviceNode(out);
    out->st_rdev = 0;
    return 0;
  }
  return static_cast<int>(syscall(SYS_fstat, fd, out));
}
