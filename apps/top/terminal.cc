#include "apps/top/terminal.h"

#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <string_view>

#include "absl/strings/str_replace.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

// The other screen, no wrapping at the right edge, no cursor; and all of it back.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?7l\x1b[?25l\x1b[2J";
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?7h\x1b[?1049l";

// What a dying process needs to put the terminal back: one place that signal handlers can reach.
termios saved_modes;
std::atomic<bool> taken{false};

// Calls nothing that a signal handler must not call.
void GiveBack() {
  if (!taken.exchange(false)) return;
  (void)!write(STDOUT_FILENO, kLeave.data(), kLeave.size());
  tcsetattr(STDIN_FILENO, TCSANOW, &saved_modes);
}

extern "C" void GiveBackAndDie(int signal) {
  GiveBack();
  // The handler was for one time: now the signal does what it does.
  raise(signal);
}

void WriteAll(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = write(STDOUT_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;  // the terminal is gone, which the caller sees at its input
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

void Take() {
  termios raw = saved_modes;
  raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON | ISIG | IEXTEN);
  raw.c_iflag &= ~static_cast<tcflag_t>(IXON | ICRNL);
  raw.c_oflag &= ~static_cast<tcflag_t>(OPOST);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  taken = true;
  tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
  WriteAll(kEnter);
}

void CatchFaults() {
  struct sigaction action {};
  action.sa_handler = GiveBackAndDie;
  action.sa_flags = SA_RESETHAND;
  for (const int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS}) {
    sigaction(fault, &action, nullptr);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<TerminalScreen>> TerminalScreen::Open() {
  OXMEM_CHECK(!taken);
  if (isatty(STDOUT_FILENO) == 0) {
    return absl::FailedPreconditionError("standard output is no terminal");
  }
  if (tcgetattr(STDIN_FILENO, &saved_modes) != 0) {
    return ErrnoStatus(errno, "standard input is no terminal");
  }
  CatchFaults();
  std::atexit(GiveBack);
  Take();
  return std::unique_ptr<TerminalScreen>(new TerminalScreen());
}

TerminalScreen::~TerminalScreen() { GiveBack(); }

bool TerminalScreen::Size(int* columns, int* rows) const {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return false;
  }
  *columns = size.ws_col;
  *rows = size.ws_row;
  return true;
}

void TerminalScreen::Show(const std::string& text) {
  // Over what is there, line by line, so that nothing flickers.
  WriteAll("\x1b[H" + absl::StrReplaceAll(text, {{"\n", "\x1b[K\r\n"}}) + "\x1b[K\x1b[J");
}

void TerminalScreen::Suspend() { GiveBack(); }

void TerminalScreen::Resume() {
  if (!taken) Take();
}

}  // namespace oxmem::apps
