#include "rdma/nex/debug.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace oxmem::nex {

int debug_level = 0;

// One write a line, so that the lines of several processes do not mix.
void DebugLine(const char* format, ...) {
  char line[512];
  int length = std::snprintf(line, sizeof line, "nex[%d]: ", static_cast<int>(getpid()));
  va_list arguments;
  va_start(arguments, format);
  length += std::vsnprintf(line + length, sizeof line - static_cast<std::size_t>(length) - 1,
                           format, arguments);
  va_end(arguments);
  length = std::min(length, static_cast<int>(sizeof line) - 2);
  line[length++] = '\n';
  [[maybe_unused]] const ssize_t written = write(2, line, static_cast<std::size_t>(length));
}

void Complain(const char* what) {
  static std::mutex mutex;
  static auto& said = *new std::vector<std::string>;
  {
    const std::lock_guard lock(mutex);
    if (std::find(said.begin(), said.end(), what) != said.end()) return;
    said.emplace_back(what);
  }
  const std::string line = "nex: " + std::string(what) + "\n";
  [[maybe_unused]] const ssize_t written = write(2, line.data(), line.size());
}

void ComplainOfHandle(const char* verb, const char* kind) {
  Complain((std::string(verb) + ": the " + kind +
            " was destroyed before, or belongs to the parent of a fork")
               .c_str());
  errno = EINVAL;
}

void ComplainOfNull(const char* verb, const char* what) {
  if (*verb == '_') ++verb;  // programs call it by its name without
  Complain((std::string(verb) + ": " + what + " is NULL").c_str());
  errno = EINVAL;
}

}  // namespace oxmem::nex
