#ifndef FS_FUSE_WRITE_ORDER_H_
#define FS_FUSE_WRITE_ORDER_H_

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "fs/fuse/request_slot.h"
#include "fs/volume/intrusive_list.h"
#include "transport/base/mutex.h"

namespace oxmem::fs {

// The writes of a mount that go past the kernel's page cache and are under way, for reads into that
// cache, which wait for those before them.
//
// The kernel drops the cached pages of such a write when it asks for it, but not when it ends, if
// it is asynchronous. A read that was asked for later and served before it would leave the old
// bytes in the cache, and a store to that page would bring them back into the region.
//
// "Before" is by the kernel's numbers, which requests get when they can be taken. Who has taken a
// read has to wait until what others were taking then is known here (Reactor::WaitForTakers).
class WriteOrder {
 public:
  // A request that was just taken, as the kernel sent it.
  void Note(RequestSlot& slot, std::span<const std::byte> request);
  // Whether it is a read that has to wait.
  bool MustWait(const RequestSlot& request) const;
  // Then it is kept, and comes out of an End. False: it need not wait.
  bool Delay(RequestSlot& request);
  // A request is answered, or no longer this process's affair. If it was such a write, appends the
  // reads that waited for it and for no other.
  void End(RequestSlot& request, std::vector<RequestSlot*>* ready);
  // A read that may wait is given up.
  void Forget(RequestSlot& read);

 private:
  using List = IntrusiveList<RequestSlot, &RequestSlot::order_link>;

  bool Waits(const RequestSlot& read) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  List writes_ ABSL_GUARDED_BY(mutex_);
  List waiting_ ABSL_GUARDED_BY(mutex_);
  std::atomic<std::size_t> under_way_{0};
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_WRITE_ORDER_H_
