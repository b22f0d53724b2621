#ifndef TESTS_SUPPORT_PROCESS_H_
#define TESTS_SUPPORT_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem::test {

struct ProcessResult {
  int exit_code = -1;  // 128 + signal for a killed one
  std::string out;
  std::string err;
};

// A child process with its output in pipes. It dies with the thread that started it and is killed
// by the destructor. Used by one thread.
class Process {
 public:
  // argv[0] is looked up in PATH. `network_namespace` is a descriptor of one, or -1 to stay here.
  static absl::StatusOr<Process> Start(const std::vector<std::string>& argv,
                                       int network_namespace = -1);
  Process(Process&& other) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();

  pid_t pid() const { return pid_; }

  // Reads standard output until `text` has appeared in it. An error, with what the process said,
  // if it ends before or the time is over.
  absl::Status WaitForOutput(const std::string& text, Duration limit);

  void Signal(int signal);

  // Waits for the end, and kills the process when it does not come in time: then an error.
  absl::StatusOr<ProcessResult> Wait(Duration limit);

 private:
  Process() = default;
  bool ReadSome(Instant until);  // false at the end of both pipes or of the time
  void Reap();

  pid_t pid_ = -1;
  UniqueFd out_;
  UniqueFd err_;
  ProcessResult result_;
};

// Runs to the end. An exit code other than 0 is an error with what the process said.
absl::StatusOr<std::string> RunCommand(const std::vector<std::string>& argv,
                                       int network_namespace = -1);

}  // namespace oxmem::test

#endif  // TESTS_SUPPORT_PROCESS_H_
