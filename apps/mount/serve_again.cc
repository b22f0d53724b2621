#include "apps/mount/serve_again.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <syslog.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "apps/common/cli.h"
#include "apps/mount/mount_run.h"
#include "spdlog/sinks/syslog_sink.h"
#include "transport/base/log.h"

namespace oxmem::apps {
namespace {

// In the process of a keeper whose server died.
void ServeAgain(const MountSpec& spec, const std::string& directory, UniqueFd keeper,
                const KeeperPlan& plan) {
  setsid();
  prctl(PR_SET_NAME, "oxmem");
  LeaveTheTerminal(MakeLogMovable());
  // Where relative paths of the first process began.
  (void)!chdir(directory.c_str());
  ServePlan next{.keeper = plan, .predecessor = std::move(keeper)};
  const absl::Status status = ServeMount(spec, std::move(next), [](const std::string&) {
    (void)!chdir("/");
    return true;
  });
  if (!status.ok()) spdlog::error("{}", std::string(status.message()));
  _exit(status.ok() ? kExitDone : kExitFailed);
}

}  // namespace

LogPlace MakeLogMovable() {
  const std::shared_ptr<spdlog::logger> before = spdlog::default_logger();
  auto place = std::make_shared<spdlog::sinks::dist_sink_mt>(before->sinks());
  auto logger = std::make_shared<spdlog::logger>(before->name(), place);
  logger->set_level(before->level());
  logger->flush_on(before->flush_level());
  spdlog::set_default_logger(std::move(logger));
  return place;
}

void LeaveTheTerminal(const LogPlace& log) {
  log->set_sinks(
      {std::make_shared<spdlog::sinks::syslog_sink_mt>("oxmem", LOG_PID, LOG_DAEMON, true)});
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(null.get(), fd);
  // Nothing to be done about a root directory that cannot be entered.
  (void)!chdir("/");
}

void CloseInherited() {
  std::vector<int> inherited;
  std::error_code no_proc;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", no_proc)) {
    int fd = -1;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &fd)) continue;
    const int flags = fcntl(fd, F_GETFD);
    if (fd > STDERR_FILENO && flags >= 0 && (flags & FD_CLOEXEC) == 0) inherited.push_back(fd);
  }
  for (const int fd : inherited) close(fd);
}

std::function<void(UniqueFd keeper, const KeeperPlan& plan)> ServingAgain(
    const MountSpec& spec, const std::string& directory) {
  return [&spec, directory](UniqueFd keeper, const KeeperPlan& next) {
    ServeAgain(spec, directory, std::move(keeper), next);
  };
}

}  // namespace oxmem::apps
