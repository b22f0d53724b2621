#include "apps/mount/keeper_command.h"

#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "apps/common/cli.h"
#include "apps/mount/keeper_process.h"
#include "apps/mount/mount_spec.h"
#include "apps/mount/serve_again.h"
#include "transport/base/log.h"
#include "transport/base/status.h"

extern char** environ;

namespace oxmem::apps {
namespace {

constexpr char kAsKeeper[] = "--as-keeper";
constexpr char kNoRestarts[] = "no";
constexpr std::size_t kFirstWord = 7;  // of the mount, among the program's words

std::vector<std::string> WordsOf(int socket, const KeeperPlan& plan) {
  std::string restarts = plan.restart == nullptr ? kNoRestarts : "";
  for (const Instant at : plan.restarts) absl::StrAppend(&restarts, at.nanoseconds(), ",");
  std::vector<std::string> words = {program_invocation_name,
                                    kAsKeeper,
                                    absl::StrCat(socket),
                                    absl::StrCat(getpid()),
                                    absl::StrCat(plan.patience.nanoseconds()),
                                    restarts,
                                    plan.directory};
  words.insert(words.end(), plan.words.begin(), plan.words.end());
  return words;
}

struct Asked {
  int socket = -1;
  pid_t server = 0;
  KeeperPlan plan;
  MountSpec spec;
  bool restarts = false;
};

absl::StatusOr<Asked> Understand(const std::vector<std::string>& words) {
  Asked asked;
  int64_t patience_ns = 0;
  struct stat socket {};
  if (words.size() < kFirstWord || !absl::SimpleAtoi(words[2], &asked.socket) ||
      !absl::SimpleAtoi(words[3], &asked.server) || !absl::SimpleAtoi(words[4], &patience_ns) ||
      patience_ns < 0 || fstat(asked.socket, &socket) != 0 || !S_ISSOCK(socket.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(kAsKeeper, " is for oxmem mount itself"));
  }
  asked.plan.patience = Duration::Nanoseconds(patience_ns);
  asked.restarts = words[5] != kNoRestarts;
  if (asked.restarts) {
    for (const absl::string_view word : absl::StrSplit(words[5], ',', absl::SkipEmpty())) {
      int64_t at_ns = 0;
      if (!absl::SimpleAtoi(word, &at_ns)) return absl::InvalidArgumentError("RESTARTS");
      asked.plan.restarts.push_back(Instant::FromNanoseconds(at_ns));
    }
  }
  asked.plan.directory = words[6];
  asked.plan.words.assign(words.begin() + kFirstWord, words.end());
  // Where relative paths of the first process began; it may be gone.
  (void)!chdir(asked.plan.directory.c_str());
  OXMEM_ASSIGN_OR_RETURN(asked.spec, MountSpecOf(asked.plan.words));
  return asked;
}

}  // namespace

absl::StatusOr<pid_t> SpawnKeeper(int socket, const KeeperPlan& plan) {
  constexpr int kSocket = STDERR_FILENO + 1;
  std::vector<std::string> words = WordsOf(kSocket, plan);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, socket, kSocket);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  sigset_t ignored = none;
  sigaddset(&ignored, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &ignored);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  pid_t pid = 0;
  // Also where the file was replaced by a newer one.
  const int error =
      posix_spawn(&pid, "/proc/self/exe", &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoStatus(error, "a keeper of the mount cannot be started");
  return pid;
}

void BecomeKeeperIfAsked(int argc, char** argv) {
  if (argc < 2 || std::string_view(argv[1]) != kAsKeeper) return;
  absl::StatusOr<Asked> asked = Understand(std::vector<std::string>(argv, argv + argc));
  absl::Status status = asked.status();
  if (status.ok()) {
    // As in ServeBehind: its lines are for the system's log.
    status = SetUpLogging(asked->spec.log_level == "info" ? "warning" : asked->spec.log_level);
  }
  if (!status.ok()) _exit(Fail("oxmem", status));
  if (asked->restarts) {
    asked->plan.restart = ServingAgain(asked->spec, asked->plan.directory);
  }
  RunKeeper(UniqueFd(asked->socket), asked->server, asked->plan);
}

}  // namespace oxmem::apps
