#ifndef OXMEM_TLOE_SEND_WINDOW_H_
#define OXMEM_TLOE_SEND_WINDOW_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "oxmem/tloe/byte_ring.h"
#include "oxmem/tloe/frame_header.h"
#include "oxmem/tloe/sequence_number.h"
#include "transport/base/clock.h"

namespace oxmem::tloe {

// A frame from its closing to its acknowledgement.
struct SentFrame {
  std::size_t offset = 0;  // in the resend ring
  std::size_t length = 0;
  Instant sent_at;
  uint32_t messages = 0;
  uint16_t resends = 0;
  FrameType type = FrameType::kNormal;
  uint8_t credit_channel = 0;
  uint8_t credit_exponent = 0;
  bool acknowledged = false;
  // An acknowledgement must come, or the frame is sent again. False for the frames of 1.0.3 that
  // nobody answers: no messages, no credits.
  bool awaited = true;
  // The acknowledgement it carries on every sending, for peers that match answers by it.
  std::optional<SequenceNumber> fixed_ack;
};

// The frames that are built and not acknowledged, encoded, in a ring of bytes (section 4, the
// retransmit buffer). A frame's index counts from 0 and never wraps; its number is the first number
// plus the index.
//
//      acknowledged ≤ sent ≤ built;  to be sent again: next_resend up to resend_end ≤ sent
//   freed │ waiting for an acknowledgement │ closed, not sent │ under construction
class SendWindow {
 public:
  SendWindow(std::size_t max_frames, std::size_t buffer_bytes);

  void Reset(SequenceNumber first);
  // At most that many frames at a time; not above what it was constructed with.
  void LimitFrames(std::size_t frames);

  std::size_t limit() const { return limit_; }

  bool HasSlot() const { return built_ - acknowledged_ < limit_; }
  bool HasRoom(std::size_t bytes) const { return HasSlot() && ring_.HasRoom(bytes); }

  // The same for the frame after the one under construction, if that one is closed at `length`.
  bool HasRoomAfterOpen(std::size_t length, std::size_t bytes) const {
    return built_ + 1 - acknowledged_ < limit_ && ring_.HasRoomAfter(open_room_, length, bytes);
  }

  // Contiguous room for a frame of at least `min_bytes`, at most `max_bytes`; empty if there is
  // none. Close ends that frame with what was written.
  std::span<std::byte> OpenFrame(std::size_t min_bytes, std::size_t max_bytes);
  SentFrame& Close(std::size_t length);

  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t sent() const { return sent_; }
  uint64_t built() const { return built_; }
  // Of the frames that were acknowledged with all before them; 0 before the first.
  std::size_t longest_acknowledged() const { return longest_acknowledged_; }
  bool all_acknowledged() const { return acknowledged_ == sent_; }
  bool has_unsent() const { return sent_ < built_; }
  SequenceNumber NumberOf(uint64_t index) const { return first_ + index; }
  SequenceNumber next_number() const { return NumberOf(sent_); }

  SentFrame& At(uint64_t index) { return slots_[index & slot_mask_]; }
  const SentFrame& At(uint64_t index) const { return slots_[index & slot_mask_]; }
  std::span<std::byte> BytesOf(const SentFrame& frame) {
    return {ring_.At(frame.offset), frame.length};
  }
  void MarkSent(Instant now);

  // Everything before `index` is acknowledged and freed.
  void AcknowledgeUpTo(uint64_t index);
  // One frame only, for peers whose acknowledgements name single frames.
  void AcknowledgeOne(uint64_t index);

  // Go-back-N: the frames from the first unacknowledged one on are to be sent again, all of them or
  // those before `end`.
  void StartResend() { StartResend(sent_); }
  void StartResend(uint64_t end) {
    next_resend_ = acknowledged_;
    resend_end_ = end;
  }
  bool resending() const { return next_resend_ < resend_end_; }
  // The next frame to send again, which is then past it; null when there is no more.
  SentFrame* NextResend(uint64_t* index);

 private:
  void FreeAcknowledged();

  std::size_t max_frames_;
  std::size_t limit_;
  std::size_t slot_mask_;
  std::unique_ptr<SentFrame[]> slots_;
  ByteRing ring_;
  std::span<std::byte> open_room_;
  bool open_ = false;
  SequenceNumber first_;
  uint64_t acknowledged_ = 0;
  uint64_t next_resend_ = 0;
  uint64_t resend_end_ = 0;
  uint64_t sent_ = 0;
  uint64_t built_ = 0;
  std::size_t longest_acknowledged_ = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_SEND_WINDOW_H_
