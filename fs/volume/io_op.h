#ifndef FS_VOLUME_IO_OP_H_
#define FS_VOLUME_IO_OP_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "fs/volume/intrusive_list.h"
#include "transport/api/request.h"
#include "transport/base/check.h"
#include "transport/base/clock.h"

namespace oxmem::fs {

enum class IoKind : uint8_t {
  kRead,
  kWrite,
  kZero,  // the range reads as zeros afterwards
  kFlush,
};

class IoOp;

// Hears that an operation is over. Called on the I/O thread.
class IoListener {
 public:
  virtual void OnIoDone(IoOp& op) = 0;

 protected:
  ~IoListener() = default;
};

// Bookkeeping of the volume that carries an operation out; nobody else touches it.
struct IoTransfer {
  uint64_t issued = 0;  // bytes of the middle handed to the channel
  uint64_t middle_offset = 0;
  uint64_t middle_length = 0;
  uint32_t parts = 0;      // handed to the channel or staged for it, and not completed
  int32_t edges = -1;      // slot of the unaligned ends, -1 if there are none
  bool stopped = false;    // nothing more is issued: it failed or was given up
  bool exclusive = false;  // later overlapping writes wait for it
  bool flush_issued = false;
};

// One read, write, zero or flush on a volume. The starter owns it and pools it; between Start and
// OnIoDone it belongs to the volume and must not move. Reusable after OnIoDone.
class IoOp {
 public:
  IoOp() = default;
  IoOp(const IoOp&) = delete;
  IoOp& operator=(const IoOp&) = delete;

  void Prepare(IoKind new_kind, uint64_t new_offset, uint64_t new_length, std::byte* new_buffer,
               IoListener* starter) {
    kind = new_kind;
    offset = new_offset;
    length = new_length;
    buffer = new_buffer;
    data = new_buffer;
    code = transport::Code::kOk;
    provider_code = 0;
    started_at = Instant();
    transfer = {};
    listeners_[0] = starter;
    listener_count_ = 1;
  }

  bool is_write() const { return kind == IoKind::kWrite || kind == IoKind::kZero; }

  // A decorator that wants to hear of the end, before everyone who asked earlier.
  void AddListener(IoListener* listener) {
    OXMEM_CHECK(listener_count_ < listeners_.size());
    listeners_[listener_count_++] = listener;
  }

  // By the volume that carried the operation out: tells the listeners, the last one first. The
  // operation may be reused, or gone, when this returns.
  void Finish(transport::Code new_code, int32_t new_provider_code) {
    code = new_code;
    provider_code = new_provider_code;
    for (std::size_t i = listener_count_; i > 1; --i) listeners_[i - 1]->OnIoDone(*this);
    listeners_[0]->OnIoDone(*this);
  }

  // The request. A write only reads the buffer; it stays untouched until OnIoDone.
  IoKind kind = IoKind::kRead;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::byte* buffer = nullptr;

  // The result. For a read that succeeded, `data` is where the bytes are: the buffer, or memory of
  // the volume that stays mapped as long as the volume lives.
  transport::Code code = transport::Code::kOk;
  int32_t provider_code = 0;
  const std::byte* data = nullptr;

  Instant started_at;  // set by the volume that measures
  IoTransfer transfer;
  ListLink<IoOp> queue_link;   // waiting to be issued, or to be let in
  ListLink<IoOp> active_link;  // under way

 private:
  std::array<IoListener*, 4> listeners_{};
  std::size_t listener_count_ = 0;
};

}  // namespace oxmem::fs

#endif  // FS_VOLUME_IO_OP_H_
