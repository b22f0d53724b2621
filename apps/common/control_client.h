#ifndef APPS_COMMON_CONTROL_CLIENT_H_
#define APPS_COMMON_CONTROL_CLIENT_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/common/figures_json.h"
#include "transport/base/clock.h"

namespace oxmem::apps {

inline constexpr uid_t kNoUser = static_cast<uid_t>(-1);

// Sends one command to the control socket at `path` and returns the answer. kUnavailable: the
// process that made the socket is gone. `user`: whose process it is.
absl::StatusOr<Json> AskProcess(const std::string& path, const std::string& command,
                                Duration patience = Duration::Seconds(2), uid_t* user = nullptr);

// The answer in a line of text of any origin: an object, with bounded depth and bounded numbers of
// members, as what reads it recurses and searches. The error says what is wrong, or what the
// process itself gave as its error.
absl::StatusOr<Json> ParseAnswer(const std::string& line);

// A running process, and what it answered.
struct ProcessAnswer {
  std::string socket_path;
  uid_t user = kNoUser;  // whose it is; root asks everybody's
  absl::StatusOr<Json> answer;
};

// Asks every process that can be found, in the order of their sockets' names. Sockets of processes
// that are gone are removed, and not in the list.
std::vector<ProcessAnswer> AskAllProcesses(const std::string& command,
                                           Duration patience = Duration::Seconds(2));

}  // namespace oxmem::apps

#endif  // APPS_COMMON_CONTROL_CLIENT_H_
