#ifndef OXMEM_CHANNEL_REQUEST_TABLE_H_
#define OXMEM_CHANNEL_REQUEST_TABLE_H_

#include <cstdint>
#include <vector>

#include "oxmem/channel/source_ids.h"
#include "transport/api/request.h"
#include "transport/base/check.h"
#include "transport/base/clock.h"

namespace oxmem::channel {

// A request that was accepted and has not completed.
struct ActiveRequest {
  transport::Request request;
  Instant submitted;
  uint64_t sent = 0;      // bytes of it in messages that were sent
  uint64_t answered = 0;  // bytes of it that were answered
  uint64_t old_value = 0;
  uint32_t first_message = SourceIds::kNone;  // list of its messages under way
  // Of a read that was denied without data: it is tried with answers in frames this short.
  uint32_t shorter_frames = 0;
  uint8_t refused_size = 0;                   // and log2 of what was denied
  uint32_t next = SourceIds::kNone;  // in the list of active or of free requests
  uint32_t previous = SourceIds::kNone;
  transport::Code code = transport::Code::kOk;  // the first error an answer carried

  bool is_flush() const { return request.op == transport::Op::kFlush; }
  bool all_sent() const { return sent == request.length; }
  bool all_answered() const { return all_sent() && first_message == SourceIds::kNone; }
};

// The requests under way, in the order they were accepted, with a cursor at the first one that
// still has something to send. Fixed size; adding and removing cost the same however many there
// are.
class RequestTable {
 public:
  static constexpr uint32_t kNone = SourceIds::kNone;

  explicit RequestTable(uint32_t depth) : slots_(depth) {
    OXMEM_CHECK(depth > 0);
    for (uint32_t i = 0; i < depth; ++i) slots_[i].next = i + 1 < depth ? i + 1 : kNone;
    free_ = 0;
  }

  ActiveRequest& operator[](uint32_t index) { return slots_[index]; }
  uint32_t count() const { return count_; }
  bool full() const { return free_ == kNone; }

  // The oldest request, and the oldest that is not wholly sent; kNone if there is none.
  uint32_t oldest() const { return head_; }
  uint32_t unsent() const { return unsent_; }

  uint32_t Add(const transport::Request& request, Instant now) {
    const uint32_t index = free_;
    OXMEM_CHECK(index != kNone);
    free_ = slots_[index].next;
    ActiveRequest& slot = slots_[index];
    slot = ActiveRequest();
    slot.request = request;
    slot.submitted = now;
    slot.previous = tail_;
    (tail_ == kNone ? head_ : slots_[tail_].next) = index;
    tail_ = index;
    if (unsent_ == kNone) unsent_ = index;
    ++count_;
    return index;
  }

  // Moves the cursor past its request, which has been sent.
  void AdvanceUnsent() { unsent_ = slots_[unsent_].next; }

  // Everything is to be sent again, from the oldest on.
  void RewindUnsent() { unsent_ = head_; }

  void Remove(uint32_t index) {
    ActiveRequest& slot = slots_[index];
    if (unsent_ == index) unsent_ = slot.next;
    (slot.previous == kNone ? head_ : slots_[slot.previous].next) = slot.next;
    (slot.next == kNone ? tail_ : slots_[slot.next].previous) = slot.previous;
    slot.next = free_;
    free_ = index;
    --count_;
  }

 private:
  std::vector<ActiveRequest> slots_;
  uint32_t head_ = kNone;
  uint32_t tail_ = kNone;
  uint32_t unsent_ = kNone;
  uint32_t free_ = kNone;
  uint32_t count_ = 0;
};

}  // namespace oxmem::channel

#endif  // OXMEM_CHANNEL_REQUEST_TABLE_H_
