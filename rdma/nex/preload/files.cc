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
#include "rdma/nex/library.h"
#include "rdma/nex/preload/real.h"

namespace nex = oxmem::nex;

namespace {

constexpr const char* kCmPath = "/dev/infiniband/rdma_cm";
constexpr const char* kVerbsPath = "/dev/infiniband/uverbs0";

// Whether the path names a device node that is there only because of nex0.
bool IsVerbsNode(const char* path) {
  return path != nullptr && std::strcmp(path, kVerbsPath) == 0 &&
         syscall(SYS_faccessat, AT_FDCWD, kVerbsPath, F_OK) != 0;
}

void FillDeviceNode(struct stat* out) {
  std::memset(out, 0, sizeof *out);
  out->st_mode = S_IFCHR | 0666;
  out->st_rdev = makedev(231, 192);
  out->st_nlink = 1;
}

// The attributes of the port's addresses that programs read from sysfs.
int OpenAttribute(const char* path) {
  if (path == nullptr || std::strncmp(path, "/sys/class/infiniband/", 22) != 0) return -1;
  nex::Library* library = nex::Library::Get();
  if (library == nullptr) return -1;
  const std::string prefix =
      "/sys/class/infiniband/" + library->config().device + "/ports/1/gid_attrs/types/";
  if (std::strncmp(path, prefix.c_str(), prefix.size()) != 0) return -1;
  const std::string text = path + prefix.size();
  const auto& addresses = library->config().addresses;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (text != std::to_string(i)) continue;
    const int fd = static_cast<int>(syscall(SYS_memfd_create, "nex-attribute", 1u));
    static constexpr char kType[] = "RoCE v2\n";
    if (fd >= 0 && syscall(SYS_write, fd, kType, sizeof kType - 1) > 0) {
      syscall(SYS_lseek, fd, 0, SEEK_SET);
    }
    return fd;
  }
  return -1;
}

int OpenAny(const char* path, int flags, mode_t mode) {
  if (path != nullptr) {
    if (std::strcmp(path, kCmPath) == 0) return nex::CmManager::Get()->Open(flags);
    const int attribute = OpenAttribute(path);
    if (attribute >= 0) return attribute;
  }
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
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
    FillDeviceNode(out);
    out->st_rdev = 0;
    return 0;
  }
  return static_cast<int>(syscall(SYS_fstat, fd, out));
}

NEX_EXPORT int stat(const char* path, struct stat* out) noexcept {
  if (IsVerbsNode(path)) {
    FillDeviceNode(out);
    return 0;
  }
  return static_cast<int>(syscall(SYS_newfstatat, AT_FDCWD, path, out, 0));
}

NEX_EXPORT int access(const char* path, int mode) noexcept {
  if (IsVerbsNode(path)) return 0;
  return static_cast<int>(syscall(SYS_faccessat, AT_FDCWD, path, mode));
}
