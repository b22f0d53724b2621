// The side of who runs mount.
#include "apps/mount/remount.h"

#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "apps/common/cli.h"
#include "apps/common/control_client.h"
#include "apps/common/control_server.h"
#include "fs/fuse/holders.h"
#include "fs/fuse/mount_table.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr Duration kPatience = Duration::Seconds(10);

bool Has(const std::string& options, const char* word) {
  const std::vector<std::string> words = absl::StrSplit(options, ',');
  return std::find(words.begin(), words.end(), word) != words.end();
}

// What the kernel itself keeps of a mount.
struct KernelFlags {
  bool read_only = false;
  bool no_exec = false;
  bool no_suid = true;
  bool no_device = true;

  bool operator==(const KernelFlags&) const = default;
};

KernelFlags FlagsOf(const std::string& path) {
  KernelFlags flags;
  for (const fs::MountTableEntry& entry : fs::ReadMountTable()) {
    if (entry.path != path || entry.type != fs::kMountType) continue;
    flags.read_only = Has(entry.options, "ro") || Has(entry.super_options, "ro");
    flags.no_exec = Has(entry.options, "noexec");
    flags.no_suid = Has(entry.options, "nosuid");
    flags.no_device = Has(entry.options, "nodev");
  }
  return flags;
}

// Whoever serves it answers what becomes dirty meanwhile.
absl::Status SetFlags(const std::string& path, const KernelFlags& flags) {
  const unsigned long bits = MS_REMOUNT | (flags.read_only ? MS_RDONLY : 0) |
                             (flags.no_exec ? MS_NOEXEC : 0) | (flags.no_suid ? MS_NOSUID : 0) |
                             (flags.no_device ? MS_NODEV : 0);
  if (mount("none", path.c_str(), nullptr, bits, nullptr) == 0) return absl::OkStatus();
  const int error = errno;
  if (error == EBUSY) {
    const std::string who = Printable(fs::HoldersOf(path));
    return absl::FailedPreconditionError(absl::StrCat(path, ": a file of it is open for writing",
                                                      who.empty() ? "" : ": ", who,
                                                      "; end that first"));
  }
  if (error == EPERM) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": only root can remount"));
  }
  return ErrnoStatus(error, absl::StrCat(path, ": the kernel does not remount it"));
}

// The process that serves the mount.
class Server {
 public:
  Server(const fs::OurMount& mount, const std::string& source,
         const std::vector<std::string>& option_lists)
      : mount_(mount) {
    request_["source"] = source;
    request_["options"] = option_lists;
  }

  // Finds it, and asks it whether it could; what the kernel would have to be told goes to `flags`.
  absl::Status Check(KernelFlags* flags) {
    const std::string command = CommandFor({}, /*only_check=*/true);
    for (ProcessAnswer& process : AskAllProcesses(command, kPatience)) {
      if (!mount_.MayBeServedBy(process.user)) continue;
      if (!process.answer.ok()) {
        const std::string why(process.answer.status().message());
        if (absl::StrContains(why, kUnknownCommand)) continue;
        // The path of its socket stands before.
        const std::size_t at = why.find(": ");
        return absl::FailedPreconditionError(at == std::string::npos ? why : why.substr(at + 2));
      }
      path_ = process.socket_path;
      const Json& answer = *process.answer;
      if (!answer.value("read_only", Json()).is_boolean() ||
          !answer.value("no_exec", Json()).is_boolean()) {
        return absl::InternalError("the process that serves the mount speaks another language");
      }
      flags->read_only = answer["read_only"].get<bool>();
      flags->no_exec = answer["no_exec"].get<bool>();
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(
        absl::StrCat(mount_.path,
                     ": no oxmem mount that can be asked from here says that it serves it (was "
                     "OXMEM_RUNTIME_DIR another, or is it another user's?)"));
  }

  // Has it do so, or something else instead.
  absl::Status Change(const std::vector<std::string>& instead = {}) {
    return AskProcess(path_, CommandFor(instead, /*only_check=*/false), kPatience).status();
  }

 private:
  std::string CommandFor(const std::vector<std::string>& instead, bool only_check) const {
    Json request = request_;
    if (!instead.empty()) request["options"] = instead;
    request["only_check"] = only_check;
    return absl::StrCat(RemountName(mount_.device), " ", JsonText(request));
  }

  const fs::OurMount& mount_;
  Json request_;
  std::string path_;
};

absl::Status Remount(const std::string& source, const std::string& directory,
                     const std::vector<std::string>& option_lists) {
  OXMEM_ASSIGN_OR_RETURN(const fs::OurMount mount, fs::FindMount(directory));
  const KernelFlags before = FlagsOf(mount.path);
  KernelFlags after = before;
  Server server(mount, source, option_lists);
  OXMEM_RETURN_IF_ERROR(server.Check(&after));
  // Nobody may write once the server thinks that nobody can, and everybody can once the kernel
  // says so.
  const bool kernel_first = after.read_only;
  if (kernel_first && !(after == before)) OXMEM_RETURN_IF_ERROR(SetFlags(mount.path, after));
  const absl::Status changed = server.Change();
  if (!changed.ok()) {
    if (kernel_first && !(after == before)) (void)SetFlags(mount.path, before);
    return changed;
  }
  if (kernel_first || after == before) return absl::OkStatus();
  const absl::Status set = SetFlags(mount.path, after);
  if (!set.ok() && before.read_only) (void)server.Change({"ro"});
  return set;
}

}  // namespace

int RemountCommand(const std::string& program, const std::string& source,
                   const std::string& directory, const std::vector<std::string>& option_lists) {
  const absl::Status status = Remount(source, directory, option_lists);
  return status.ok() ? kExitDone : Fail(program, status);
}

}  // namespace oxmem::apps
