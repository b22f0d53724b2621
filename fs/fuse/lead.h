#ifndef FS_FUSE_LEAD_H_
#define FS_FUSE_LEAD_H_

#include <semaphore>

namespace oxmem::fs {

// Which of the reactors that wait in read does: one at a time, so that small requests stay with one
// thread, whose caches and whose processor are warm. A reactor that got a large request passes the
// lead before it copies, and reads without it until a small one comes: large ones are copied by
// several at once.
class Lead {
 public:
  void Take() { free_.acquire(); }
  void Pass() { free_.release(); }

 private:
  std::binary_semaphore free_{1};
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_LEAD_H_
