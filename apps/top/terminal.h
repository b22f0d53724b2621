#ifndef APPS_TOP_TERMINAL_H_
#define APPS_TOP_TERMINAL_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace oxmem::apps {

// The terminal as a screen of its own: no echo, keys at once, no cursor, what was there before out
// of sight. Everything is put back when it is destroyed, when the process calls exit, and when it
// dies of a fault; only SIGKILL leaves no chance. One at a time; not thread-safe.
class TerminalScreen {
 public:
  // Standard input and output must be a terminal.
  static absl::StatusOr<std::unique_ptr<TerminalScreen>> Open();
  ~TerminalScreen();
  TerminalScreen(const TerminalScreen&) = delete;
  TerminalScreen& operator=(const TerminalScreen&) = delete;

  // False if it is too small to say, or the terminal is gone.
  bool Size(int* columns, int* rows) const;

  // Replaces what the screen shows; `text` has lines without escape sequences, no more and no
  // longer than the screen has room for.
  void Show(const std::string& text);

  // Gives the terminal back and takes it again, around a stop of the process.
  void Suspend();
  void Resume();

 private:
  TerminalScreen() = default;
};

}  // namespace oxmem::apps

#endif  // APPS_TOP_TERMINAL_H_
