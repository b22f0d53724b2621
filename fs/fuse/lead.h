#ifndef FS_FUSE_LEAD_H_
#define FS_FUSE_LEAD_H_

#include <atomic>
#include <semaphore>

namespace oxmem::fs {

// Which of the reactors that wait in read does: one at a time, so that small requests stay with one
// thread, whose caches and whose processor are warm. A reactor that got a large request passes the
// lead before it copies, and reads along, without waiting, until a small one comes or none: large
// ones are copied by several at once. Who leads waits in read only while nobody reads along, so
// that whoever has taken a request knows of every other reactor whether it is taking one.
class Lead {
 public:
  void Take() { free_.acquire(); }
  void Pass() { free_.release(); }

  void BeginAlong() { along_.fetch_add(1); }
  void EndAlong() { along_.fetch_sub(1); }
  bool alone() const { return along_.load() == 0; }

 private:
  std::binary_semaphore free_{1};
  std::atomic<int> along_{0};
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_LEAD_H_
