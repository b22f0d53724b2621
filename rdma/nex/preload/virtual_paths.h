#ifndef RDMA_NEX_PRELOAD_VIRTUAL_PATHS_H_
#define RDMA_NEX_PRELOAD_VIRTUAL_PATHS_H_

#include <sys/stat.h>

#include <optional>

#include "rdma/nex/sysfs.h"

namespace oxmem::nex {

// What nex0 has below /sys and /dev, where there is no such file in fact. All of these are quick
// for other paths and may be called before constructors ran.
std::optional<SysfsEntry> FindVirtual(const char* path);
// Where the kernel has devices of its own: its folder of them, which nex0 has to be found in too.
std::optional<SysfsEntry> FindDeviceFolder(const char* path);
// Whether it is the node of a verbs device, which some programs look for before they use one.
bool IsVerbsNode(const char* path);
// Fills what stat(2) says of a path of either kind. False: it is none.
bool StatVirtual(const char* path, struct stat* out);
void FillDeviceNode(struct stat* out);
// A descriptor from which the text of a virtual file can be read; -1: the path is none.
int OpenVirtual(const char* path, int flags);

// The C library's own calls.
int RealOpen(const char* path, int flags, mode_t mode);
int RealAccess(const char* path, int mode);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_PRELOAD_VIRTUAL_PATHS_H_
