#include "rdma/nex/preload/virtual_paths.h"

#include <endian.h>
#include <fcntl.h>
#include <net/if.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <string>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

constexpr const char* kVerbsPath = "/dev/infiniband/uverbs0";
constexpr off_t kAttributeSize = 4096;  // what the kernel says of every one

SysfsDevice Describe(const Library& library) {
  ibv_device_attr device;
  ibv_port_attr port;
  FillDeviceAttributes(library, &device);
  FillPortAttributes(library, &port);
  SysfsDevice out;
  out.name = library.config().device;
  out.node_guid = be64toh(device.node_guid);
  out.firmware = device.fw_ver;
  out.lid = port.lid;
  out.port_capabilities = port.port_cap_flags;
  for (const LocalAddress& address : library.config().addresses) {
    char name[IF_NAMESIZE] = "";
    if_indextoname(address.interface_index, name);
    out.addresses.push_back({address.gid, name});
  }
  return out;
}

}  // namespace

int RealOpen(const char* path, int flags, mode_t mode) {
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int RealAccess(const char* path, int mode) {
  return static_cast<int>(syscall(SYS_faccessat, AT_FDCWD, path, mode));
}

std::optional<SysfsEntry> FindVirtual(const char* path) {
  if (!MayBeSysfs(path)) return std::nullopt;
  // The way to what is there may lead through what is not: nex0/../mlx5_0.
  const std::string clean = CleanSysfsPath(path);
  const int before = errno;
  const bool real = RealAccess(clean.c_str(), F_OK) == 0;
  errno = before;
  if (real) return std::nullopt;
  Library* library = Library::Get();
  if (library == nullptr) return std::nullopt;
  return FindSysfs(Describe(*library), path);
}

std::optional<SysfsEntry> FindDeviceFolder(const char* path) {
  if (!MayBeSysfs(path) || !IsSysfsFolder(path)) return std::nullopt;
  Library* library = Library::Get();
  if (library == nullptr) return std::nullopt;
  return FindSysfs(Describe(*library), path);
}

bool IsVerbsNode(const char* path) {
  return path != nullptr && std::strcmp(path, kVerbsPath) == 0 && RealAccess(path, F_OK) != 0;
}

void FillDeviceNode(struct stat* out) {
  std::memset(out, 0, sizeof *out);
  out->st_mode = S_IFCHR | 0666;
  out->st_rdev = makedev(231, 192);
  out->st_nlink = 1;
}

bool StatVirtual(const char* path, struct stat* out) {
  if (IsVerbsNode(path)) {
    FillDeviceNode(out);
    return true;
  }
  const auto entry = FindVirtual(path);
  if (!entry) return false;
  std::memset(out, 0, sizeof *out);
  // Programs that walk through folders know them again by this.
  out->st_ino = std::hash<std::string>()(CleanSysfsPath(path));
  out->st_mode = entry->folder ? S_IFDIR | 0755 : S_IFREG | 0444;
  out->st_nlink = entry->folder ? 2 : 1;
  out->st_size = entry->folder ? 0 : kAttributeSize;
  out->st_blksize = kAttributeSize;
  return true;
}

int OpenVirtual(const char* path, int flags) {
  const auto entry = FindVirtual(path);
  if (!entry || entry->folder) return -1;
  const unsigned keep = (flags & O_CLOEXEC) != 0 ? 1u : 0u;  // MFD_CLOEXEC
  const int fd = static_cast<int>(syscall(SYS_memfd_create, "nex-attribute", keep));
  if (fd >= 0 && syscall(SYS_write, fd, entry->text.data(), entry->text.size()) > 0) {
    syscall(SYS_lseek, fd, 0, SEEK_SET);
  }
  return fd;
}

}  // namespace oxmem::nex
