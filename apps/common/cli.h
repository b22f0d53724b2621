#ifndef APPS_COMMON_CLI_H_
#define APPS_COMMON_CLI_H_

#include <string>

#include "absl/status/status.h"

namespace oxmem::apps {

// What a program ends with.
inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitWrongUsage = 2;

// Says on stderr, in one line, what went wrong: "PROGRAM: message". Returns the exit code: 2 if the
// user's words were wrong (kInvalidArgument), otherwise 1.
int Fail(const std::string& program, const absl::Status& status);

// Opens /dev/null in place of each standard descriptor that is closed, so that nothing else gets
// its number. To be called first.
void OpenStandardDescriptors();

// Has the signals that a parent may have left in another state, or that would end this process
// without a word, do what everything else here counts on: children can be waited for (SIGCHLD), and
// a file that may not grow is an error (SIGXFSZ). To be called first.
void SetUpSignals();

// Writes out what was printed. If not all of it could be, says so and returns 1 instead of
// kExitDone; a command that failed has said why.
int EndOutput(const std::string& program, int code);

// The text with control characters as \xNN: names that came from elsewhere, on a terminal.
std::string Printable(const std::string& text);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_CLI_H_
