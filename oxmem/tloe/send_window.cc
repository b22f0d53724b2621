#include "oxmem/tloe/send_window.h"

#include <algorithm>
#include <bit>

#include "transport/base/check.h"

namespace oxmem::tloe {

SendWindow::SendWindow(std::size_t max_frames, std::size_t buffer_bytes)
    : max_frames_(std::clamp<std::size_t>(max_frames, 1, SequenceNumber::kHalf - 1)),
      limit_(max_frames_),
      slot_mask_(std::bit_ceil(max_frames_) - 1),
      slots_(std::make_unique<SentFrame[]>(slot_mask_ + 1)),
      ring_(buffer_bytes) {}

void SendWindow::Reset(SequenceNumber first) {
  first_ = first;
  acknowledged_ = next_resend_ = resend_end_ = sent_ = built_ = 0;
  longest_acknowledged_ = 0;
  limit_ = max_frames_;
  open_ = false;
  ring_.FreeAll();
}

void SendWindow::LimitFrames(std::size_t frames) {
  limit_ = std::clamp<std::size_t>(frames, 1, max_frames_);
}

std::span<std::byte> SendWindow::OpenFrame(std::size_t min_bytes, std::size_t max_bytes) {
  OXMEM_CHECK(!open_);
  if (!HasSlot()) return {};
  const auto room = ring_.Room(min_bytes);
  if (room.empty()) return {};
  open_ = true;
  open_room_ = room.first(std::min(room.size(), max_bytes));
  return open_room_;
}

SentFrame& SendWindow::Close(std::size_t length) {
  OXMEM_CHECK(open_ && length <= open_room_.size());
  open_ = false;
  SentFrame& frame = At(built_);
  frame = SentFrame{};
  frame.offset = ring_.Take(open_room_, length);
  frame.length = length;
  if (acknowledged_ == built_) ring_.FreeUpTo(frame.offset);
  ++built_;
  return frame;
}

void SendWindow::MarkSent(Instant now) {
  OXMEM_CHECK(has_unsent());
  At(sent_).sent_at = now;
  ++sent_;
}

void SendWindow::AcknowledgeUpTo(uint64_t index) {
  OXMEM_CHECK(index >= acknowledged_ && index <= sent_);
  for (; acknowledged_ < index; ++acknowledged_) {
    longest_acknowledged_ = std::max(longest_acknowledged_, At(acknowledged_).length);
  }
  FreeAcknowledged();
}

void SendWindow::AcknowledgeOne(uint64_t index) {
  OXMEM_CHECK(index >= acknowledged_ && index < sent_);
  At(index).acknowledged = true;
  while (acknowledged_ < sent_ && At(acknowledged_).acknowledged) ++acknowledged_;
  FreeAcknowledged();
}

void SendWindow::FreeAcknowledged() {
  next_resend_ = std::max(next_resend_, acknowledged_);
  if (acknowledged_ < built_) {
    ring_.FreeUpTo(At(acknowledged_).offset);
  } else if (!open_) {
    // The bytes of a frame under construction are not taken yet, so the ring must not start again
    // over them; Close frees what lies before it.
    ring_.FreeAll();
  }
}

SentFrame* SendWindow::NextResend(uint64_t* index) {
  while (next_resend_ < resend_end_) {
    *index = next_resend_++;
    SentFrame& frame = At(*index);
    if (!frame.acknowledged) return &frame;
  }
  return nullptr;
}

}  // namespace oxmem::tloe
