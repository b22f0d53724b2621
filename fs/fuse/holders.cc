#include "fs/fuse/holders.h"

#include <dirent.h>
#include <limits.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fs/fuse/mount_table.h"

namespace oxmem::fs {
namespace {

constexpr std::size_t kMostNamed = 8;

std::string ReadLink(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), target, sizeof target);
  return length < 0 ? "" : std::string(target, static_cast<std::size_t>(length));
}

bool Within(const std::string& path, const std::string& directory) {
  return path == directory || absl::StartsWith(path, directory + "/");
}

// The file system that is mounted at a directory, by the numbers that the kernel gives its mounts:
// a process of another mount namespace may have something else at the same path.
class FileSystem {
 public:
  explicit FileSystem(const std::string& directory) {
    const std::vector<MountTableEntry> table = ReadMountTable();
    for (const MountTableEntry& entry : table) {
      if (entry.path == directory) device_ = entry.device;
    }
    AddMountsOf(table);
  }

  // Whether a mount of it is among those that the process, a directory of /proc, can see.
  bool IsSeenBy(const std::string& process) {
    if (ReadLink(process + "/ns/mnt") == own_namespace_) return true;
    return AddMountsOf(ReadMountTable(process.substr(process.rfind('/') + 1)));
  }

  // Whether a descriptor of the process is of it.
  bool HasDescriptor(const std::string& process, const std::string& fd) {
    const std::string mount = MountOf(absl::StrCat(process, "/fdinfo/", fd));
    if (mount.empty() || mounts_.count(mount) != 0) return true;
    IsSeenBy(process);
    return mounts_.count(mount) != 0;
  }

 private:
  bool AddMountsOf(const std::vector<MountTableEntry>& table) {
    bool any = false;
    for (const MountTableEntry& entry : table) {
      if (entry.device != device_) continue;
      mounts_.insert(entry.id);
      any = true;
    }
    return any;
  }

  static std::string MountOf(const std::string& description) {
    std::ifstream file(description);
    for (std::string word; file >> word;) {
      if (word == "mnt_id:" && file >> word) return word;
    }
    return "";
  }

  const std::string own_namespace_ = ReadLink("/proc/self/ns/mnt");
  std::string device_;
  std::set<std::string> mounts_;
};

// How a process uses something in the directory; empty if it does not.
std::string UseBy(const std::string& process, const std::string& directory, FileSystem& mounted) {
  const auto is_there = [&](const char* link) {
    return Within(ReadLink(process + link), directory) && mounted.IsSeenBy(process);
  };
  if (is_there("/cwd")) return "works in it";
  if (is_there("/root")) return "has its root in it";
  std::unique_ptr<DIR, int (*)(DIR*)> fds(opendir((process + "/fd").c_str()), closedir);
  while (fds != nullptr) {
    const dirent* entry = readdir(fds.get());
    if (entry == nullptr) break;
    const std::string target = ReadLink(absl::StrCat(process, "/fd/", entry->d_name));
    if (Within(target, directory) && mounted.HasDescriptor(process, entry->d_name)) {
      return absl::StrCat("has ", target, " open");
    }
  }
  std::ifstream maps(process + "/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::size_t slash = line.find('/');
    if (slash == std::string::npos) continue;
    const std::string file = line.substr(slash);
    if (!Within(file, directory)) continue;
    return mounted.IsSeenBy(process) ? absl::StrCat("maps ", file) : "";
  }
  return "";
}

// The names in a directory that are numbers or begin so.
std::vector<std::string> NamesIn(const char* directory, const char* prefix) {
  std::vector<std::string> names;
  std::unique_ptr<DIR, int (*)(DIR*)> open(opendir(directory), closedir);
  while (open != nullptr) {
    const dirent* entry = readdir(open.get());
    if (entry == nullptr) break;
    if (absl::StartsWith(entry->d_name, prefix)) names.emplace_back(entry->d_name);
  }
  return names;
}

std::string FirstLine(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

void AddProcesses(const std::string& directory, std::vector<std::string>* holders) {
  FileSystem mounted(directory);
  for (const std::string& name : NamesIn("/proc", "")) {
    const auto pid = static_cast<pid_t>(std::strtol(name.c_str(), nullptr, 10));
    if (pid <= 0) continue;
    const std::string process = absl::StrCat("/proc/", pid);
    if (pid == getpid()) {
      // What it has open is its own business, but where it was started is not.
      if (Within(ReadLink(process + "/cwd"), directory)) {
        holders->push_back("this command itself works in it");
      }
      continue;
    }
    const std::string use = UseBy(process, directory, mounted);
    if (use.empty()) continue;
    holders->push_back(absl::StrCat(FirstLine(process + "/comm"), " (pid ", pid, ") ", use));
  }
}

void AddLoopDevices(const std::string& directory, std::vector<std::string>* holders) {
  for (const std::string& name : NamesIn("/sys/block", "loop")) {
    const std::string file = FirstLine(absl::StrCat("/sys/block/", name, "/loop/backing_file"));
    if (!Within(file, directory)) continue;
    std::string holder = absl::StrCat("/dev/", name, " has ", file, " open");
    for (const MountTableEntry& entry : ReadMountTable()) {
      if (entry.source == absl::StrCat("/dev/", name)) {
        absl::StrAppend(&holder, " and is mounted at ", entry.path);
      }
    }
    holders->push_back(std::move(holder));
  }
}

void AddMounts(const std::string& directory, std::vector<std::string>* holders) {
  for (const MountTableEntry& entry : ReadMountTable()) {
    if (entry.path != directory && Within(entry.path, directory)) {
      holders->push_back(absl::StrCat(entry.path, " is mounted in it"));
    }
  }
}

}  // namespace

std::string HoldersOf(const std::string& directory) {
  std::vector<std::string> holders;
  AddProcesses(directory, &holders);
  AddLoopDevices(directory, &holders);
  AddMounts(directory, &holders);
  const std::size_t more = holders.size() - std::min(holders.size(), kMostNamed);
  holders.resize(holders.size() - more);
  std::string text = absl::StrJoin(holders, ", ");
  if (more != 0) absl::StrAppend(&text, " and ", more, " more");
  return text;
}

}  // namespace oxmem::fs
