#ifndef APPS_MOUNT_MOUNT_FIGURES_H_
#define APPS_MOUNT_MOUNT_FIGURES_H_

#include <vector>

#include "apps/common/figures.h"
#include "fs/fuse/fuse_mount.h"
#include "fs/volume/statistics_volume.h"

namespace oxmem::apps {

inline constexpr char kFileKind[] = "file";
inline constexpr char kMountKind[] = "mount";

// The volumes of one file, one for each reactor.
using FileVolumes = std::vector<const fs::StatisticsVolume*>;

// What a mount counts: a part of kind "mount", called as its directory, with the sums over its
// files and what its reactors count, then a part of kind "file" for each file, called by its path,
// with its volumes' counters and, as channel_*, their channels'. `volumes` are those of the files
// in their order, and live. Any thread.
std::vector<Part> MountFigures(const fs::FuseMount& mount, const std::vector<FileVolumes>& volumes);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_MOUNT_FIGURES_H_
