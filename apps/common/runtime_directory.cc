#include "apps/common/runtime_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr char kRootDirectory[] = "/run/oxmem";
constexpr mode_t kMode = 0755;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

absl::StatusOr<std::string> RuntimeDirectory() {
  if (std::string chosen = Environment("OXMEM_RUNTIME_DIR"); !chosen.empty()) return chosen;
  if (geteuid() == 0) return kRootDirectory;
  const std::string user = Environment("XDG_RUNTIME_DIR");
  if (!user.empty()) return absl::StrCat(user, "/oxmem");
  return absl::FailedPreconditionError(
      "there is no place for a control socket: XDG_RUNTIME_DIR is not set (log in through systemd, "
      "or set OXMEM_RUNTIME_DIR to a directory of your own)");
}

absl::StatusOr<std::string> MakeRuntimeDirectory() {
  OXMEM_ASSIGN_OR_RETURN(std::string directory, RuntimeDirectory());
  if (mkdir(directory.c_str(), kMode) == 0) {
    // The umask of whoever comes first is not for all that come later; sockets have their own
    // modes.
    if (chmod(directory.c_str(), kMode) != 0) return ErrnoStatus(errno, directory);
  } else if (errno != EEXIST) {
    return ErrnoStatus(errno, absl::StrCat("cannot make the directory ", directory));
  }
  return directory;
}

std::vector<std::string> RuntimeDirectories() {
  if (std::string chosen = Environment("OXMEM_RUNTIME_DIR"); !chosen.empty()) return {chosen};
  std::vector<std::string> directories = {kRootDirectory};
  if (geteuid() == 0) {
    std::error_code error;
    for (const auto& user : std::filesystem::directory_iterator("/run/user", error)) {
      directories.push_back(user.path().string() + "/oxmem");
    }
  } else if (const std::string user = Environment("XDG_RUNTIME_DIR"); !user.empty()) {
    directories.push_back(user + "/oxmem");
  }
  return directories;
}

}  // namespace oxmem::apps
