#ifndef FS_FUSE_LEAD_H_
#define FS_FUSE_LEAD_H_

#include <semaphore>

namespace oxmem::fs {

// Which of the reactors takes requests from the kernel: one at a time, so that each is known to all
// before another is taken (WriteOrder), and so that small ones stay with one thread, whose caches
// and whose processor are warm. A reactor that waits in read leads meanwhile; one that got a large
// request passes the lead before it copies, so that large ones are copied by several at once.
class Lead {
 public:
  void Take() { free_.acquire(); }
  bool TryTake() { return free_.try_acquire(); }
  void Pass() { free_.release(); }

 private:
  std::binary_semaphore free_{1};
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_LEAD_H_
