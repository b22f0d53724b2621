#ifndef FS_FUSE_REQUEST_SLOT_H_
#define FS_FUSE_REQUEST_SLOT_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/fuse/libfuse.h"
#include "fs/volume/io_op.h"
#include "fs/volume/volume.h"
#include "transport/base/clock.h"

namespace oxmem::fs {

class Reactor;

// The longest read or write the kernel sends.
inline constexpr std::size_t kLargestIoBytes = std::size_t{1} << 20;

// What an operation is for besides what it is.
enum class Purpose : uint8_t {
  kItself,
  kOpen,         // a flush that an open waits for
  kSyncedWrite,  // a write that is followed by a flush, then that flush
};

// A request of the kernel with the memory it is received into, which is also where the bytes of a
// read are put. A reactor receives into a slot; if the request is not answered at once it keeps the
// slot until its operation is over.
struct RequestSlot : IoOp {
  std::byte* io_memory = nullptr;  // kLargestIoBytes, page-aligned: where a write's bytes arrive
  fuse_req_t request = nullptr;    // null once it is answered
  uint64_t unique = 0;             // the kernel's number for it
  uint32_t thread_id = 0;          // who waits for it; 0 if unknown
  std::size_t file = 0;
  Purpose purpose = Purpose::kItself;
  uint64_t written = 0;          // by a synced write whose flush is under way
  uint32_t losses = 0;           // of the file's memory, when an open that waits was asked for
  Instant since;                 // its time begins
  uint64_t issued_at_since = 0;  // progress then
  RequestSlot* next_free = nullptr;
  bool is_present = false;             // its memory was taken from the system
  ListLink<RequestSlot> waiting_link;  // under way, the oldest first

  // For WriteOrder.
  struct Range {
    uint64_t inode = 0;
    uint64_t first = 0;
    uint64_t end = 0;
  };
  bool is_ordered_write = false;  // known as one that is under way
  bool fills_cache = false;       // a read into the kernel's page cache
  Range range;                    // of either
  uint64_t order = 0;             // the kernel's number
  std::size_t received = 0;       // bytes of the request
  Reactor* owner = nullptr;       // of a read that was looked at
  ListLink<RequestSlot> order_link;
};

// The slots of one reactor and their memory, which is taken from the system as it is first used.
class RequestSlots {
 public:
  static absl::StatusOr<std::unique_ptr<RequestSlots>> Create(std::size_t count);
  ~RequestSlots();
  RequestSlots(const RequestSlots&) = delete;
  RequestSlots& operator=(const RequestSlots&) = delete;

  std::span<std::byte> memory() const { return memory_; }

  // The slot used last comes first, so that few are touched. nullptr if all are in use.
  RequestSlot* Take();
  bool available() const { return free_ != nullptr; }
  void Return(RequestSlot* slot);

  // Where a request is received so that the bytes of a write begin at io_memory.
  static std::span<std::byte> ReceiveBuffer(const RequestSlot& slot);

 private:
  RequestSlots(std::span<std::byte> memory, std::size_t count);

  std::span<std::byte> memory_;
  std::vector<RequestSlot> slots_;
  RequestSlot* free_ = nullptr;
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_REQUEST_SLOT_H_
