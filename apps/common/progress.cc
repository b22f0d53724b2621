#include "apps/common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "absl/strings/str_format.h"

namespace oxmem::apps {
namespace {

constexpr int kBarWidth = 24;
constexpr char kBackAndErase[] = "\r\x1b[K";

int TerminalColumns(int fd) {
  winsize size{};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool CanMoveCursor(int fd) {
  const char* terminal = std::getenv("TERM");
  return isatty(fd) == 1 && terminal != nullptr && std::string_view(terminal) != "dumb";
}

void WriteAll(int fd, const std::string& text) {
  // Decoration: a terminal that takes no text shows none.
  [[maybe_unused]] const ssize_t written = write(fd, text.data(), text.size());
}

}  // namespace

Progress::Progress()
    : Progress(STDERR_FILENO, CanMoveCursor(STDERR_FILENO), TerminalColumns(STDERR_FILENO)) {}

Progress::Progress(int fd, bool is_terminal, int columns)
    : fd_(fd), is_terminal_(is_terminal), columns_(columns) {}

Progress::~Progress() { Clear(); }

void Progress::Show(double fraction, const std::string& text) {
  if (!is_terminal_) return;
  const double clamped = std::clamp(fraction, 0.0, 1.0);
  const int filled = static_cast<int>(clamped * kBarWidth);
  std::string line = absl::StrFormat(
      "[%s%s] %3.0f%% %s", std::string(static_cast<std::size_t>(filled), '='),
      std::string(static_cast<std::size_t>(kBarWidth - filled), ' '), clamped * 100.0, text);
  const auto room = static_cast<std::size_t>(std::max(columns_ - 1, 0));
  if (line.size() > room) line.resize(room);
  WriteAll(fd_, kBackAndErase + line);
  shown_ = true;
}

void Progress::Clear() {
  if (shown_) WriteAll(fd_, kBackAndErase);
  shown_ = false;
}

}  // namespace oxmem::apps
