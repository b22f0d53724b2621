#ifndef FS_FUSE_HELD_STDERR_H_
#define FS_FUSE_HELD_STDERR_H_

#include <string>

#include "transport/base/unique_fd.h"

namespace oxmem::fs {

// While it lives, standard error is held back, that of child processes too: the reason that a
// program which a library runs gives for its failure. What was not taken is written out at the end.
// For a process that has no other thread yet.
class HeldStderr {
 public:
  HeldStderr();
  ~HeldStderr();
  HeldStderr(const HeldStderr&) = delete;
  HeldStderr& operator=(const HeldStderr&) = delete;

  // What was written so far, in one line, without the name of the program before it.
  std::string Take();

 private:
  std::string ReadAll();

  UniqueFd held_;
  UniqueFd original_;
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_HELD_STDERR_H_
