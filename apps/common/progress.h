#ifndef APPS_COMMON_PROGRESS_H_
#define APPS_COMMON_PROGRESS_H_

#include <string>

namespace oxmem::apps {

// A line on a terminal's stderr that shows how far a long command is. In a pipe it does nothing.
// One thread uses it.
class Progress {
 public:
  Progress();                                       // on stderr, if it is a terminal
  Progress(int fd, bool is_terminal, int columns);  // for tests
  ~Progress();                                      // takes the line away
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  bool visible() const { return is_terminal_; }

  // Shows a bar for `fraction` (0 to 1) and the text behind it, cut to the terminal's width.
  void Show(double fraction, const std::string& text);

  // Takes the line away, so that other text can be printed.
  void Clear();

 private:
  int fd_;
  bool is_terminal_;
  int columns_;
  bool shown_ = false;
};

}  // namespace oxmem::apps

#endif  // APPS_COMMON_PROGRESS_H_
