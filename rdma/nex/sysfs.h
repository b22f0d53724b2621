#ifndef RDMA_NEX_SYSFS_H_
#define RDMA_NEX_SYSFS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rdma/nex/config.h"

namespace oxmem::nex {

// What nex0 has below /sys/class/infiniband, where the kernel describes its devices: programs read
// the kinds and network interfaces of GIDs there, and some find their device that way.
struct SysfsDevice {
  std::string name;
  std::uint64_t node_guid = 0;  // host byte order
  std::string firmware;
  std::uint16_t lid = 0;
  std::uint32_t port_capabilities = 0;
  struct Address {
    Gid gid{};
    std::string interface;
  };
  std::vector<Address> addresses;
};

struct SysfsEntry {
  bool folder = false;
  std::string text;                // of a file
  std::vector<std::string> names;  // of a folder, without . and ..
};

inline constexpr std::string_view kSysfsFolder = "/sys/class/infiniband";

// Whether a path can be one of these, by its first bytes: for the calls that programs make often.
bool MayBeSysfs(const char* path);

// The path without what means nothing in it: . and .. and slashes too many.
std::string CleanSysfsPath(std::string_view path);
bool IsSysfsFolder(std::string_view path);  // kSysfsFolder itself

// The entry at an absolute path; nothing when nex0 has none there. kSysfsFolder itself has only
// nex0 here, the devices of the kernel are not known.
std::optional<SysfsEntry> FindSysfs(const SysfsDevice& device, std::string_view path);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_SYSFS_H_
