#ifndef RDMA_NEX_QP_FRAMES_H_
#define RDMA_NEX_QP_FRAMES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "rdma/nex/qp/work.h"
#include "rdma/nex/wire.h"

namespace oxmem::nex {

// What every part of one queue pair knows.
struct QpIdentity {
  std::uint32_t qpn = 0;
  std::uint32_t domain = 0;
  ibv_qp_type type = IBV_QPT_RC;
  bool reliable = true;
  bool signal_all = false;
  std::uint32_t max_inline = 0;
  int max_send_sges = 1;
  std::uint32_t send_depth = 1;
  bool shared_receives = false;
};

// What handling a frame led to.
enum class Verdict : std::uint8_t {
  kContinue,   // done, look at the next frame
  kPayload,    // the payload goes where the handler says
  kDrain,      // the payload is read and forgotten
  kFailed,     // the queue pair enters the error state
  kViolation,  // the peer does not speak the protocol: the connection ends
};

// One frame on its way out. It points into the send ring or carries its own entry, so it stays
// where it is until it was sent.
struct OutFrame {
  std::array<std::byte, kHeaderBytes> header;
  Payload payload;
  ibv_sge own{};             // the range a read response takes from memory
  std::uint64_t length = 0;  // of the payload
  std::uint32_t work = 0;    // index in the send ring
  bool request = false;
};

// The frames that are being written to the stream, oldest first; the first may be partly out.
class OutQueue {
 public:
  static constexpr std::uint32_t kFrames = 32;

  bool full() const { return tail_ - head_ == kFrames; }
  bool empty() const { return head_ == tail_; }
  OutFrame& Push() { return frames_[tail_++ % kFrames]; }
  void DropLast() { --tail_; }
  OutFrame& Front() { return frames_[head_ % kFrames]; }
  // Forgets requests of which no byte has gone out.
  void DropUnsentRequests();
  bool mid_frame() const { return offset_ > 0; }
  void Clear() { head_ = tail_ = 0, offset_ = 0; }

  // Adds the pieces of the frames, as far as the batch has room.
  MapResult Fill(RegionTable& regions, IoBatch* batch);
  // `bytes` more were written. Calls sent(frame) for each frame that is out.
  template <typename Sent>
  void Advance(std::size_t bytes, Sent sent) {
    offset_ += bytes;
    while (!empty() && offset_ >= kHeaderBytes + Front().length) {
      offset_ -= kHeaderBytes + Front().length;
      sent(Front());
      ++head_;
    }
  }

 private:
  std::array<OutFrame, kFrames> frames_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  std::uint64_t offset_ = 0;  // bytes of the first frame that are out
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_QP_FRAMES_H_
