#include "fs/fuse/held_stderr.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "absl/strings/str_replace.h"

namespace oxmem::fs {

HeldStderr::HeldStderr()
    : held_(memfd_create("oxmem-stderr", MFD_CLOEXEC)),
      original_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) {
  if (held_.valid() && original_.valid()) dup2(held_.get(), STDERR_FILENO);
}

HeldStderr::~HeldStderr() {
  if (!held_.valid() || !original_.valid()) return;
  dup2(original_.get(), STDERR_FILENO);
  const std::string text = ReadAll();
  (void)!write(STDERR_FILENO, text.data(), text.size());
}

std::string HeldStderr::ReadAll() {
  char text[4096];
  const ssize_t bytes = held_.valid() ? pread(held_.get(), text, sizeof text, 0) : 0;
  return bytes <= 0 ? "" : std::string(text, static_cast<std::size_t>(bytes));
}

std::string HeldStderr::Take() {
  std::string text = ReadAll();
  if (ftruncate(held_.get(), 0) != 0 || lseek(held_.get(), 0, SEEK_SET) != 0) return "";
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const std::size_t colon = text.find(": ");
  const std::size_t blank = text.find(' ');
  if (colon < blank) text.erase(0, colon + 2);
  return absl::StrReplaceAll(text, {{"\n", "; "}});
}

}  // namespace oxmem::fs
