#include "fs/fuse/mount_point.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

extern char** environ;

namespace oxmem::fs {
namespace {

// The mount table writes blanks and backslashes as \ooo.
std::string Unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

struct Mounted {
  std::string path;
  std::string type;
  std::string source;
  std::string device;  // "0-45"
};

// Every mount, in the order in which they were made.
std::vector<Mounted> ReadMountTable() {
  std::vector<Mounted> mounts;
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);) {
    const std::vector<std::string> fields = absl::StrSplit(line, ' ');
    for (std::size_t i = 6; i + 2 < fields.size(); ++i) {
      if (fields[i] != "-") continue;
      mounts.push_back({.path = Unescape(fields[4]),
                        .type = fields[i + 1],
                        .source = Unescape(fields[i + 2]),
                        .device = absl::StrReplaceAll(fields[2], {{":", "-"}})});
      break;
    }
  }
  return mounts;
}

// What is mounted at the path (the topmost), if anything is.
std::optional<Mounted> MountedAt(const std::string& path) {
  std::optional<Mounted> mounted;
  for (Mounted& mount : ReadMountTable()) {
    if (mount.path == path) mounted = std::move(mount);
  }
  return mounted;
}

// Without touching the last component if a mount of ours is there, which may be dead or wait for
// somebody to serve it.
absl::StatusOr<std::string> AbsolutePath(const std::string& directory) {
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
    return absl::NotFoundError(
        absl::StrCat(directory, ": there is no such directory (make it with mkdir)"));
  }
  return ErrnoStatus(errno, directory);
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

std::string ReadLink(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), target, sizeof target);
  return length < 0 ? "" : std::string(target, static_cast<std::size_t>(length));
}

bool Within(const std::string& path, const std::string& directory) {
  return path == directory || absl::StartsWith(path, directory + "/");
}

// How a process uses something in the directory; empty if it does not.
std::string UseBy(const std::string& process, const std::string& directory) {
  if (Within(ReadLink(process + "/cwd"), directory)) return "works in it";
  if (Within(ReadLink(process + "/root"), directory)) return "has its root in it";
  std::unique_ptr<DIR, int (*)(DIR*)> fds(opendir((process + "/fd").c_str()), closedir);
  while (fds != nullptr) {
    const dirent* entry = readdir(fds.get());
    if (entry == nullptr) break;
    const std::string target = ReadLink(absl::StrCat(process, "/fd/", entry->d_name));
    if (Within(target, directory)) return absl::StrCat("has ", target, " open");
  }
  std::ifstream maps(process + "/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t slash = line.find('/');
    if (slash == std::string::npos) continue;
    const std::string file = line.substr(slash);
    if (Within(file, directory)) return absl::StrCat("maps ", file);
  }
  return "";
}

std::vector<Holder> FindMountsWithin(const std::string& directory) {
  std::vector<Holder> holders;
  for (const Mounted& mount : ReadMountTable()) {
    if (mount.path == directory || !Within(mount.path, directory)) continue;
    holders.push_back({0, mount.source, absl::StrCat("is mounted in it, at ", mount.path)});
  }
  return holders;
}

// Loop devices have a file open in the name of no process.
std::vector<Holder> FindLoopDevices(const std::string& directory) {
  std::vector<Holder> holders;
  std::unique_ptr<DIR, int (*)(DIR*)> devices(opendir("/sys/block"), closedir);
  while (devices != nullptr) {
    const dirent* entry = readdir(devices.get());
    if (entry == nullptr) break;
    std::string file;
    std::getline(std::ifstream(absl::StrCat("/sys/block/", entry->d_name, "/loop/backing_file")),
                 file);
    if (!Within(file, directory)) continue;
    std::string device = absl::StrCat("/dev/", entry->d_name);
    std::string how = absl::StrCat("has ", file, " open");
    for (const Mounted& mount : ReadMountTable()) {
      if (mount.source == device) absl::StrAppend(&how, " and is mounted at ", mount.path);
    }
    holders.push_back({0, std::move(device), std::move(how)});
  }
  return holders;
}

}  // namespace

absl::StatusOr<std::string> PrepareMountPoint(const std::string& directory) {
  OXMEM_ASSIGN_OR_RETURN(const std::string path, AbsolutePath(directory));
  if (const auto mounted = MountedAt(path); mounted.has_value()) {
    if (mounted->type != kMountType || StateOfMount(path) != MountState::kDead) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": a file system of type ", mounted->type, " is mounted there already",
                       mounted->type == kMountType
                           ? "; oxmem umount takes it away, oxmem mount --replace goes on with it"
                           : ""));
    }
    OXMEM_RETURN_IF_ERROR(Unmount(path, UnmountMode::kDetach));
  }
  struct stat attributes;
  if (stat(path.c_str(), &attributes) != 0) return ErrnoStatus(errno, path);
  if (!S_ISDIR(attributes.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": is not a directory"));
  }
  OXMEM_RETURN_IF_ERROR(CheckEmpty(path));
  return path;
}

absl::StatusOr<OurMount> FindMount(const std::string& directory) {
  OXMEM_ASSIGN_OR_RETURN(const std::string path, AbsolutePath(directory));
  const auto mounted = MountedAt(path);
  if (!mounted.has_value()) {
    return absl::NotFoundError(absl::StrCat(path, ": nothing is mounted there"));
  }
  if (mounted->type != kMountType) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": what is mounted there is of type ",
                                                      mounted->type, ", not ours; use umount"));
  }
  return OurMount{.path = path, .device = mounted->device};
}

MountState StateOfMount(const std::string& path) {
  constexpr int kPatienceMs = 5000;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return MountState::kSilent;
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
  if (!answered) return MountState::kSilent;
  return state == 'd' ? MountState::kDead : MountState::kServed;
}

absl::Status Unmount(const std::string& directory, UnmountMode mode) {
  if (geteuid() != 0) return UnmountByHelper(directory, mode);
  const int flags = UMOUNT_NOFOLLOW | (mode == UnmountMode::kDetach ? MNT_DETACH : 0);
  if (umount2(directory.c_str(), flags) != 0) return ErrnoStatus(errno, directory);
  return absl::OkStatus();
}

std::vector<Holder> FindHolders(const std::string& directory) {
  std::vector<Holder> holders = FindMountsWithin(directory);
  for (Holder& device : FindLoopDevices(directory)) holders.push_back(std::move(device));
  std::unique_ptr<DIR, int (*)(DIR*)> processes(opendir("/proc"), closedir);
  while (processes != nullptr) {
    const dirent* entry = readdir(processes.get());
    if (entry == nullptr) break;
    const auto pid = static_cast<pid_t>(std::strtol(entry->d_name, nullptr, 10));
    if (pid <= 0 || pid == getpid()) continue;
    const std::string process = absl::StrCat("/proc/", pid);
    std::string use = UseBy(process, directory);
    if (use.empty()) continue;
    std::string command;
    std::getline(std::ifstream(process + "/comm"), command);
    holders.push_back({pid, command, std::move(use)});
  }
  return holders;
}

}  // namespace oxmem::fs
