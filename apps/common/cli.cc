#include "apps/common/cli.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/base/status.h"

namespace oxmem::apps {

int Fail(const std::string& program, const absl::Status& status) {
  const std::string message = Printable(std::string(status.message()));
  std::fprintf(stderr, "%s: %s\n", program.c_str(), message.c_str());
  return absl::IsInvalidArgument(status) ? kExitWrongUsage : kExitFailed;
}

void OpenStandardDescriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // The lowest number that is free is this one.
    if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) (void)!open("/dev/null", O_RDWR);
  }
}

void SetUpSignals() {
  std::signal(SIGCHLD, SIG_DFL);
  std::signal(SIGXFSZ, SIG_IGN);
}

int EndOutput(const std::string& program, int code) {
  const int error = std::fflush(stdout) == 0 ? 0 : errno;
  if ((error == 0 && std::ferror(stdout) == 0) || code != kExitDone) return code;
  constexpr char kWhat[] = "standard output could not be written";
  return Fail(program, error != 0 ? ErrnoStatus(error, kWhat)
                                  : absl::DataLossError(absl::StrCat(kWhat, " (is there room?)")));
}

std::string Printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppendFormat(&out, "\\x%02x", byte);
    } else {
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace oxmem::apps
