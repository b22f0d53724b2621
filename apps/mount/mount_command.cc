// From words to exit codes: mounting in the background or in the foreground, and unmounting.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/common/cli.h"
#include "apps/mount/mount_config.h"
#include "apps/mount/mount_run.h"
#include "apps/mount/mount_succession.h"
#include "apps/mount/serve_again.h"
#include "fs/fuse/holders.h"
#include "fs/fuse/mount_point.h"
#include "transport/base/log.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {
namespace {

constexpr Duration kKeep = Duration::Seconds(30);

int ServeHere(const std::string& program, const MountSpec& spec) {
  // Whoever runs this in the foreground starts it again; only a service manager is known to.
  const bool managed = std::getenv("NOTIFY_SOCKET") != nullptr;
  ServePlan plan;
  plan.keeper.patience = spec.keep.value_or(managed ? kKeep : Duration());
  plan.keeper.words = spec.options.words;
  const absl::Status status = ServeMount(spec, std::move(plan), [](const std::string& text) {
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
    return true;
  });
  return status.ok() ? kExitDone : Fail(program, status);
}

// What the serving process tells the one that waits for it: the exit code, then text for people.
// False if that one is gone.
bool Report(int fd, int code, const std::string& text) {
  const std::string message = static_cast<char>('0' + code) + text;
  return write(fd, message.data(), message.size()) == static_cast<ssize_t>(message.size());
}

[[noreturn]] void ServeBehind(const MountSpec& spec, UniqueFd report) {
  CloseInherited();
  const LogPlace log = MakeLogMovable();
  bool ready = false;
  ServePlan plan;
  plan.waiting_fd = report.get();
  plan.keeper.patience = spec.keep.value_or(kKeep);
  std::error_code ignored;
  plan.keeper.directory = std::filesystem::current_path(ignored).string();
  plan.keeper.words = spec.options.words;
  plan.keeper.restart = ServingAgain(spec, plan.keeper.directory);
  const absl::Status status = ServeMount(spec, std::move(plan), [&](const std::string& text) {
    ready = true;
    LeaveTheTerminal(log);
    // Not before: of a directory that is mounted when it is looked into, only the process group
    // that is asked to mount sees what is beneath.
    setsid();
    const bool heard = Report(report.get(), kExitDone, text);
    report.Reset();
    return heard;
  });
  if (!ready) {
    const bool usage = status.code() == absl::StatusCode::kInvalidArgument;
    Report(report.get(), usage ? kExitWrongUsage : kExitFailed, std::string(status.message()));
  } else if (!status.ok()) {
    spdlog::error("{}", std::string(status.message()));
  }
  _exit(status.ok() ? kExitDone : kExitFailed);
}

int ServeInBackground(const std::string& program, const MountSpec& spec) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Fail(program, ErrnoStatus(errno, "pipe"));
  UniqueFd from_child(ends[0]);
  UniqueFd to_parent(ends[1]);
  const pid_t child = fork();
  if (child < 0) return Fail(program, ErrnoStatus(errno, "fork"));
  if (child == 0) {
    from_child.Reset();
    ServeBehind(spec, std::move(to_parent));
  }
  to_parent.Reset();
  std::string message;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(from_child.get(), buffer, sizeof buffer)) != 0;) {
    if (n > 0) message.append(buffer, static_cast<std::size_t>(n));
    if (n < 0 && errno != EINTR) break;
  }
  if (message.empty()) {
    return Fail(program, absl::InternalError("the serving process died before it was ready"));
  }
  const int code = message[0] - '0';
  const std::string text = message.substr(1);
  if (code == kExitDone) {
    std::printf("%s\n", text.c_str());
    return kExitDone;
  }
  waitpid(child, nullptr, 0);
  return Fail(program, code == kExitWrongUsage ? absl::InvalidArgumentError(text)
                                               : absl::FailedPreconditionError(text));
}

// Whether something of ours is mounted there that is not dead.
bool IsServed(const std::string& directory) {
  const absl::StatusOr<fs::OurMount> mount = fs::FindMount(directory);
  return mount.ok() && fs::LivenessOf(mount->path) != fs::Liveness::kDead;
}

}  // namespace

int MountCommand(const std::string& program, const absl::StatusOr<MountSpec>& spec,
                 bool foreground) {
  if (!spec.ok()) return Fail(program, spec.status());
  // In the background the lines of a start that works would only repeat what is printed.
  const bool quiet = !foreground && spec->log_level == "info";
  if (const absl::Status status = SetUpLogging(quiet ? "warning" : spec->log_level); !status.ok()) {
    return Fail(program, status);
  }
  return foreground ? ServeHere(program, *spec) : ServeInBackground(program, *spec);
}

int MountAllCommand(const std::string& program, const std::vector<std::string>& option_lists) {
  const absl::StatusOr<std::vector<std::string>> paths = AllConfigPaths();
  if (!paths.ok()) return Fail(program, paths.status());
  if (paths->empty()) {
    std::printf("no mounts are described in %s\n", ConfigDirectory().c_str());
    return kExitDone;
  }
  int worst = kExitDone;
  for (const std::string& path : *paths) {
    const absl::StatusOr<MountSpec> spec = ReadMountConfig(path, option_lists);
    int code = kExitDone;
    if (spec.ok() && IsServed(spec->options.directory)) {
      std::printf("%s: mounted already\n", spec->options.directory.c_str());
    } else {
      code = MountCommand(spec.ok() ? absl::StrCat(program, ": ", path) : program, spec,
                          /*foreground=*/false);
    }
    std::fflush(stdout);
    worst = std::max(worst, code);
  }
  return worst;
}

int UmountCommand(const std::string& program, const std::string& directory, bool lazy) {
  const absl::StatusOr<fs::OurMount> mount = fs::FindMount(directory);
  if (!mount.ok()) return Fail(program, mount.status());
  GiveUpOrphan(directory);
  absl::Status status =
      fs::Unmount(mount->path, lazy ? fs::UnmountMode::kDetach : fs::UnmountMode::kClean);
  fs::Liveness liveness = fs::Liveness::kServed;
  if (!lazy && ErrnoOf(status) == EBUSY) liveness = fs::LivenessOf(mount->path);
  if (liveness == fs::Liveness::kDead) {
    // What nobody serves is of no use to those who hold it.
    status = fs::Unmount(mount->path, fs::UnmountMode::kDetach);
  }
  if (status.ok()) return kExitDone;
  if (ErrnoOf(status) != EBUSY) return Fail(program, status);
  std::string who = Printable(fs::HoldersOf(mount->path));
  if (who.empty()) who = geteuid() == 0 ? "nobody who is seen from here" : "root can see by whom";
  if (liveness == fs::Liveness::kSilent) who += ", and its daemon does not answer";
  return Fail(program,
              absl::FailedPreconditionError(absl::StrCat(mount->path, " is in use: ", who,
                                                         "; end that, or detach it with --lazy")));
}

}  // namespace oxmem::apps
