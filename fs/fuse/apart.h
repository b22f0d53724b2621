#ifndef FS_FUSE_APART_H_
#define FS_FUSE_APART_H_

#include <functional>

#include "transport/base/clock.h"

namespace oxmem::fs {

// Whoever is killed while the kernel waits for an answer to a request of his does not end before it
// comes. A process that serves a mount must therefore not use it itself: killed by SIGKILL it would
// wait for ever for its own answer, and nobody could get its descriptors to end that.
//
// So what asks something of an own mount runs in a child, which has none of the descriptors, and
// only this thread waits for it, in a way that ends with the process. `work` makes system calls and
// nothing else, as other threads may be in the midst of anything. Returns what it does, 0 to 255;
// an errno if there is no child; ETIMEDOUT if it is not done in time, and then it is ended.
int Apart(const std::function<int()>& work, Instant deadline = Instant::Never());

}  // namespace oxmem::fs

#endif  // FS_FUSE_APART_H_
