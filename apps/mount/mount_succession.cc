#include "apps/mount/mount_succession.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/fuse/fuse_mount.h"
#include "fs/fuse/mount_point.h"
#include "transport/base/log.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

// Null where a mount can be made all the same.
absl::StatusOr<std::unique_ptr<Predecessor>> NobodyToAsk(const MountSpec& spec,
                                                         const std::string& why) {
  const absl::StatusOr<fs::OurMount> mount = fs::FindMount(spec.options.directory);
  if (!mount.ok() || fs::LivenessOf(mount->path) == fs::Liveness::kDead) return nullptr;
  return absl::FailedPreconditionError(
      absl::StrCat(mount->path, ": cannot be taken over without its keeper: ", why,
                   " (it was mounted with keep=0, which is usual in the foreground, its keeper was "
                   "killed, or OXMEM_RUNTIME_DIR was another); oxmem umount it and mount it anew"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Predecessor>> FindPredecessor(const MountSpec& spec,
                                                             UniqueFd inherited) {
  if (inherited.valid()) return Predecessor::Ask(std::move(inherited));
  // Why there is none is of no interest here: making the mount says what is wrong with the place.
  const absl::StatusOr<std::string> path = KeeperPath(spec.options.directory);
  if (!path.ok()) {
    return spec.replace ? NobodyToAsk(spec, std::string(path.status().message())) : nullptr;
  }
  absl::StatusOr<std::unique_ptr<Predecessor>> found = Predecessor::AskAt(*path);
  if (absl::IsNotFound(found.status())) {
    return spec.replace ? NobodyToAsk(spec, absl::StrCat("nobody listens at ", *path)) : nullptr;
  }
  OXMEM_RETURN_IF_ERROR(Annotate(found.status(), spec.options.directory));
  if ((*found)->serving() && !spec.replace) return nullptr;
  const absl::Status same = CheckSuccession(**found, spec, {});
  if (same.ok()) return found;
  if ((*found)->serving()) return same;
  spdlog::warn("{}; it is mounted anew", std::string(same.message()));
  (*found)->LetGo();
  return nullptr;
}

absl::Status CheckSuccession(const Predecessor& predecessor, const MountSpec& spec,
                             std::span<const std::unique_ptr<fs::Volume>> volumes) {
  OXMEM_ASSIGN_OR_RETURN(const fs::MountRecord record,
                         fs::ReadMountRecord(predecessor.record_fd()));
  return fs::FuseMount::CheckTakeOver(record, spec.options, spec.files, volumes);
}

void GiveUpOrphan(const std::string& directory) {
  const absl::StatusOr<std::string> path = KeeperPath(directory);
  if (!path.ok()) return;
  const auto keeper = Predecessor::AskAt(*path);
  if (keeper.ok() && !(*keeper)->serving()) (*keeper)->LetGo();
}

}  // namespace oxmem::apps
