#include "apps/mount/own_places.h"

#include <filesystem>
#include <string>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "apps/common/runtime_directory.h"
#include "fs/fuse/mount_point.h"

namespace oxmem::apps {
namespace {

bool Within(const std::filesystem::path& path, const std::filesystem::path& directory) {
  const std::string inner = path.lexically_normal().string();
  const std::string outer = directory.lexically_normal().string();
  return inner == outer || outer == "/" || absl::StartsWith(inner, outer + "/");
}

// Also by a link.
bool LiesIn(const std::string& path, const std::string& directory) {
  std::error_code error;
  const std::filesystem::path whole = std::filesystem::absolute(path, error);
  if (error || Within(whole, directory)) return !error;
  const std::filesystem::path parent = std::filesystem::canonical(whole.parent_path(), error);
  return !error && Within(parent / whole.filename(), directory);
}

absl::Status InItself(const std::string& what, const std::string& path,
                      const std::string& directory) {
  return absl::InvalidArgumentError(absl::StrCat(what, path, " lies in ", directory,
                                                 ", which is to be mounted; choose another place"));
}

}  // namespace

absl::Status CheckOwnPlaces(const MountSpec& spec) {
  const absl::StatusOr<std::string> directory = fs::MountPath(spec.options.directory);
  if (!directory.ok()) return absl::OkStatus();  // mounting says what is wrong with it
  if (!spec.stats_file.empty() && LiesIn(spec.stats_file, *directory)) {
    return InItself("-o stats: ", spec.stats_file, *directory);
  }
  const absl::StatusOr<std::string> runtime = RuntimeDirectory();
  if (runtime.ok() && LiesIn(*runtime, *directory)) {
    return InItself("the directory for sockets (OXMEM_RUNTIME_DIR), ", *runtime, *directory);
  }
  return absl::OkStatus();
}

}  // namespace oxmem::apps
