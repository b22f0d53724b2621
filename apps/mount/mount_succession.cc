#include "apps/mount/mount_succession.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "apps/common/control_client.h"
#include "apps/common/control_server.h"
#include "fs/fuse/fuse_mount.h"
#include "fs/fuse/mount_point.h"
#include "transport/base/log.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr Duration kLendPatience = Duration::Seconds(20);

// The server of the mount may still start a keeper. Null where a mount can be made all the same.
absl::StatusOr<std::unique_ptr<Predecessor>> Borrow(const MountSpec& spec) {
  const absl::StatusOr<fs::OurMount> mount = fs::FindMount(spec.options.directory);
  if (!mount.ok() || fs::LivenessOf(mount->path) == fs::Liveness::kDead) return nullptr;
  std::string why = "no oxmem mount that can be asked from here says that it serves it";
  for (const ProcessAnswer& process : AskAllProcesses(LendCommand(mount->device), kLendPatience)) {
    if (!mount->MayBeServedBy(process.user)) continue;
    if (process.answer.ok()) {
      OXMEM_ASSIGN_OR_RETURN(const std::string path, KeeperPath(mount->path));
      auto found = Predecessor::AskAt(path);
      if (!absl::IsNotFound(found.status())) return found;
      why = absl::StrCat("nobody listens at ", path);
    } else if (!absl::StrContains(std::string(process.answer.status().message()),
                                  kUnknownCommand)) {
      why = std::string(process.answer.status().message());
    }
  }
  return absl::FailedPreconditionError(
      absl::StrCat("cannot be taken over: ", why,
                   " (was OXMEM_RUNTIME_DIR another, or is it another user's?); the mount stays "
                   "as it is, oxmem umount takes it away"));
}

// The mount as its last server had it.
absl::StatusOr<MountSpec> SpecOf(const Predecessor& predecessor) {
  OXMEM_ASSIGN_OR_RETURN(const fs::MountRecord record,
                         fs::ReadMountRecord(predecessor.record_fd()));
  return MountSpecOf(record.words);
}

// Files that are open wait for a server; how they may be used is what the kernel knows.
void AdoptReadOnly(const Predecessor& predecessor, MountSpec* spec) {
  const absl::StatusOr<MountSpec> last = SpecOf(predecessor);
  if (!last.ok() || last->options.read_only == spec->options.read_only) return;
  const std::vector<std::string>& words = last->options.words;
  const auto changes = std::find_if(words.begin(), words.end(), [](const std::string& word) {
    return absl::StartsWith(word, "directory=");
  });
  // What it was made with is for the new one to say.
  if (std::none_of(changes, words.end(),
                   [](const std::string& word) { return word == "ro=" || word == "rw="; })) {
    return;
  }
  spec->options.read_only = last->options.read_only;
  spec->options.words.push_back(spec->options.read_only ? "ro=" : "rw=");
  spdlog::info("{}: goes on {}, as it was remounted", spec->options.directory,
               spec->options.read_only ? "ro" : "rw");
}

}  // namespace

std::string LendCommand(const std::string& device) { return absl::StrCat("keeper ", device); }

absl::StatusOr<std::unique_ptr<Predecessor>> FindPredecessor(MountSpec* spec, UniqueFd inherited) {
  if (inherited.valid()) {
    OXMEM_ASSIGN_OR_RETURN(auto keeper, Predecessor::Ask(std::move(inherited)));
    OXMEM_ASSIGN_OR_RETURN(*spec, SpecOf(*keeper));
    return keeper;
  }
  // Why there is none is of no interest here: making the mount says what is wrong with the place.
  const absl::StatusOr<std::string> path = KeeperPath(spec->options.directory);
  absl::StatusOr<std::unique_ptr<Predecessor>> found = absl::NotFoundError("");
  if (path.ok()) found = Predecessor::AskAt(*path);
  if (absl::IsNotFound(found.status())) {
    if (!spec->replace) return nullptr;
    found = Borrow(*spec);
    if (found.ok() && *found == nullptr) return nullptr;
  }
  OXMEM_RETURN_IF_ERROR(Annotate(found.status(), spec->options.directory));
  if ((*found)->serving() && !spec->replace) return nullptr;
  if (!(*found)->serving()) AdoptReadOnly(**found, spec);
  const absl::Status same = CheckSuccession(**found, *spec, {});
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

absl::Status UnmountOrphan(const Predecessor& predecessor) {
  OXMEM_ASSIGN_OR_RETURN(const fs::MountRecord record,
                         fs::ReadMountRecord(predecessor.record_fd()));
  const auto where = fs::PlaceOf(record.device, record.directory);
  return where.has_value() ? fs::Unmount(*where, fs::UnmountMode::kDetach) : absl::OkStatus();
}

void GiveUpOrphan(const std::string& directory) {
  const absl::StatusOr<std::string> path = KeeperPath(directory);
  if (!path.ok()) return;
  const auto keeper = Predecessor::AskAt(*path);
  if (keeper.ok() && !(*keeper)->serving()) (*keeper)->LetGo();
}

}  // namespace oxmem::apps
