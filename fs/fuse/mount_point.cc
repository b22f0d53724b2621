#include "fs/fuse/mount_point.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fs/fuse/apart.h"
#include "fs/fuse/mount_table.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

extern char** environ;

namespace oxmem::fs {
namespace {

// What is mounted at the path (the topmost), if anything is.
std::optional<MountTableEntry> MountedAt(const std::string& path) {
  std::optional<MountTableEntry> mounted;
  for (MountTableEntry& entry : ReadMountTable()) {
    if (entry.path == path) mounted = std::move(entry);
  }
  return mounted;
}

absl::Status CheckEmpty(const std::string& path) {
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
  if (directory == nullptr) return ErrnoStatus(errno, path);
  while (const dirent* entry = readdir(directory.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": the directory is not empty (\"", name,
                     "\" is in it and would be hidden); choose an empty one"));
  }
  return absl::OkStatus();
}

absl::Status UnmountByHelper(const std::string& path, UnmountMode mode) {
  std::vector<std::string> words = {"fusermount3", "-u"};
  if (mode == UnmountMode::kDetach) words.emplace_back("-z");
  words.emplace_back("--");
  words.push_back(path);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  int pipe_fds[2];
  if (pipe2(pipe_fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  UniqueFd read_end(pipe_fds[0]);
  UniqueFd write_end(pipe_fds[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDERR_FILENO);
  pid_t child = 0;
  const int error =
      posix_spawnp(&child, "fusermount3", &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  write_end.Reset();
  if (error != 0) return ErrnoStatus(error, "fusermount3 (is the package fuse3 installed?)");
  std::string said;
  char buffer[512];
  for (ssize_t n = 0; (n = read(read_end.get(), buffer, sizeof buffer)) > 0;) {
    said.append(buffer, static_cast<std::size_t>(n));
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  if (absl::StrContains(said, "busy")) return ErrnoStatus(EBUSY, path);
  while (!said.empty() && said.back() == '\n') said.pop_back();
  return absl::InternalError(absl::StrCat(path, ": ", said));
}

// Takes away what a killed daemon left; an error if anything else is mounted there.
absl::Status ClearAway(const std::string& path) {
  const auto mounted = MountedAt(path);
  if (!mounted.has_value()) return absl::OkStatus();
  const bool ours = mounted->type == kMountType;
  const Liveness liveness = ours ? LivenessOf(path) : Liveness::kServed;
  if (liveness == Liveness::kDead) return Unmount(path, UnmountMode::kDetach);
  return absl::AlreadyExistsError(absl::StrCat(
      path, ": a file system of type ", mounted->type, " is mounted there already",
      !ours                           ? ""
      : liveness == Liveness::kSilent ? " and does not answer; oxmem umount takes it away"
                                      : "; oxmem umount takes it away, oxmem mount --replace "
                                        "goes on with it"));
}

}  // namespace

// Without touching the last component if a mount of ours is there, which may be dead or wait for
// somebody to serve it.
absl::StatusOr<std::string> MountPath(const std::string& directory) {
  std::string path = directory;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  char resolved[PATH_MAX];
  if (!name.empty() && name != "." && name != ".." &&
      realpath(parent.c_str(), resolved) != nullptr) {
    std::string whole = absl::StrCat(std::strcmp(resolved, "/") == 0 ? "" : resolved, "/", name);
    const auto mounted = MountedAt(whole);
    if (mounted.has_value() && mounted->type == kMountType) return whole;
  }
  if (realpath(path.c_str(), resolved) != nullptr) return std::string(resolved);
  if (errno == ENOENT) {
    return absl::NotFoundError(absl::StrCat(directory, ": there is no such directory"));
  }
  return ErrnoStatus(errno, directory);
}

absl::StatusOr<MountPoint> PrepareMountPoint(const std::string& directory) {
  MountPoint point;
  const absl::StatusOr<std::string> absolute = MountPath(directory);
  if (absl::IsNotFound(absolute.status())) {
    return absl::NotFoundError(
        absl::StrCat(std::string(absolute.status().message()), " (make it with mkdir)"));
  }
  OXMEM_ASSIGN_OR_RETURN(point.path, absolute);
  // A directory that is to be mounted when it is looked into: looking into it would wait for us.
  if (const auto mounted = MountedAt(point.path); mounted && mounted->type == "autofs")
    return point;
  OXMEM_RETURN_IF_ERROR(ClearAway(point.path));
  struct stat attributes;
  if (stat(point.path.c_str(), &attributes) != 0) return ErrnoStatus(errno, point.path);
  if (!S_ISDIR(attributes.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(point.path, ": is not a directory"));
  }
  point.turn.Reset(open(point.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!point.turn.valid()) return ErrnoStatus(errno, point.path);
  if (flock(point.turn.get(), LOCK_EX | LOCK_NB) != 0) {
    return absl::AlreadyExistsError(
        absl::StrCat(point.path, ": something else is being mounted there at this moment"));
  }
  // Who had the turn before may be done.
  OXMEM_RETURN_IF_ERROR(ClearAway(point.path));
  OXMEM_RETURN_IF_ERROR(CheckEmpty(point.path));
  return point;
}

absl::StatusOr<OurMount> FindMount(const std::string& directory) {
  OXMEM_ASSIGN_OR_RETURN(const std::string path, MountPath(directory));
  const auto mounted = MountedAt(path);
  if (!mounted.has_value()) {
    return absl::NotFoundError(absl::StrCat(path, ": nothing is mounted there"));
  }
  if (mounted->type != kMountType) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": what is mounted there is of type ",
                                                      mounted->type, ", not ours; use umount"));
  }
  OurMount mount{.path = path, .device = mounted->device};
  const std::vector<std::string> words = absl::StrSplit(mounted->super_options, ',');
  for (const std::string& word : words) {
    if (!absl::StartsWith(word, "user_id=")) continue;
    if (!absl::SimpleAtoi(word.substr(8), &mount.owner)) mount.owner = 0;
  }
  return mount;
}

std::optional<std::string> PlaceOf(const std::string& device, const std::string& directory) {
  std::optional<std::string> place;
  for (const MountTableEntry& entry : ReadMountTable()) {
    if (entry.device != device || entry.type != kMountType) continue;
    if (entry.path == directory) return directory;
    if (!place.has_value()) place = entry.path;
  }
  return place;
}

Liveness LivenessOf(const std::string& path) {
  constexpr int kPatienceMs = 2000;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Liveness::kSilent;
  const UniqueFd answer(ends[0]);
  UniqueFd to_parent(ends[1]);
  // Who asks a daemon that is stopped cannot take its question back; so a child does.
  const pid_t child = fork();
  if (child == 0) {
    // Attributes would come from the kernel's cache.
    struct statfs ignored;
    const bool dead =
        statfs(path.c_str(), &ignored) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
    const char state = dead ? 'd' : 's';
    (void)!write(to_parent.get(), &state, 1);
    _exit(0);
  }
  to_parent.Reset();
  pollfd wait{.fd = answer.get(), .events = POLLIN, .revents = 0};
  char state = 0;
  const bool answered =
      child > 0 && poll(&wait, 1, kPatienceMs) > 0 && read(answer.get(), &state, 1) == 1;
  if (child > 0) {
    if (!answered) kill(child, SIGKILL);
    waitpid(child, nullptr, answered ? 0 : WNOHANG);
  }
  if (!answered) return Liveness::kSilent;
  return state == 'd' ? Liveness::kDead : Liveness::kServed;
}

absl::Status Unmount(const std::string& directory, UnmountMode mode) {
  if (geteuid() != 0) return UnmountByHelper(directory, mode);
  const int flags = UMOUNT_NOFOLLOW | (mode == UnmountMode::kDetach ? MNT_DETACH : 0);
  const int error =
      Apart([&directory, flags] { return umount2(directory.c_str(), flags) == 0 ? 0 : errno; });
  return error == 0 ? absl::OkStatus() : ErrnoStatus(error, directory);
}

}  // namespace oxmem::fs
