#include "tests/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transport/base/status.h"

namespace oxmem::test {
namespace {

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

absl::StatusOr<Pipe> MakePipe() {
  std::array<int, 2> ends;
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// In the child, between fork and exec: system calls only.
[[noreturn]] void Become(char* const* argv, int network_namespace, int out, int err, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  if (network_namespace >= 0 && setns(network_namespace, CLONE_NEWNET) != 0) _exit(126);
  if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0) _exit(126);
  execvp(argv[0], argv);
  _exit(127);
}

void ReadInto(UniqueFd& fd, std::string& text) {
  std::array<char, 4096> buffer;
  const ssize_t got = read(fd.get(), buffer.data(), buffer.size());
  if (got > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(got));
  } else if (got == 0 || errno != EINTR) {
    fd.Reset();
  }
}

}  // namespace

absl::StatusOr<Process> Process::Start(const std::vector<std::string>& argv,
                                       int network_namespace) {
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  OXMEM_ASSIGN_OR_RETURN(Pipe out, MakePipe());
  OXMEM_ASSIGN_OR_RETURN(Pipe err, MakePipe());
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "fork");
  if (pid == 0) {
    Become(arguments.data(), network_namespace, out.write.get(), err.write.get(), parent);
  }
  Process process;
  process.pid_ = pid;
  process.out_ = std::move(out.read);
  process.err_ = std::move(err.read);
  return process;
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)),
      result_(std::move(other.result_)) {}

Process::~Process() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    Reap();
  }
}

void Process::Reap() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  result_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void Process::Signal(int signal) {
  if (pid_ > 0) kill(pid_, signal);
}

bool Process::ReadSome(Instant until) {
  if (!out_.valid() && !err_.valid()) return false;
  // A closed pipe's -1 is skipped by poll.
  std::array<pollfd, 2> polls = {pollfd{out_.get(), POLLIN, 0}, pollfd{err_.get(), POLLIN, 0}};
  const int ready = poll(polls.data(), polls.size(), PollTimeoutMs(Now(), until));
  if (ready < 0) return errno == EINTR;
  if (ready == 0) return false;
  if (polls[0].revents != 0) ReadInto(out_, result_.out);
  if (polls[1].revents != 0) ReadInto(err_, result_.err);
  return true;
}

absl::Status Process::WaitForOutput(const std::string& text, Duration limit) {
  const Instant until = Now() + limit;
  while (result_.out.find(text) == std::string::npos) {
    if (!ReadSome(until)) {
      return absl::DeadlineExceededError(absl::StrCat(
          "\"", text, "\" did not appear; output: ", result_.out, "; errors: ", result_.err));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<ProcessResult> Process::Wait(Duration limit) {
  const Instant until = Now() + limit;
  while (ReadSome(until)) {
  }
  const bool late = out_.valid() || err_.valid();
  if (late) Signal(SIGKILL);
  Reap();
  if (late) {
    return absl::DeadlineExceededError(
        absl::StrCat("did not end in time; output: ", result_.out, "; errors: ", result_.err));
  }
  return std::move(result_);
}

absl::StatusOr<std::string> RunCommand(const std::vector<std::string>& argv,
                                       int network_namespace) {
  OXMEM_ASSIGN_OR_RETURN(Process process, Process::Start(argv, network_namespace));
  OXMEM_ASSIGN_OR_RETURN(ProcessResult result, process.Wait(Duration::Seconds(30)));
  if (result.exit_code != 0) {
    return absl::InternalError(
        absl::StrCat(absl::StrJoin(argv, " "), ": exit code ", result.exit_code, ": ", result.err));
  }
  return std::move(result.out);
}

}  // namespace oxmem::test
