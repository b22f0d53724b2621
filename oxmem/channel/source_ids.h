#ifndef OXMEM_CHANNEL_SOURCE_IDS_H_
#define OXMEM_CHANNEL_SOURCE_IDS_H_

#include <cstdint>
#include <vector>

#include "oxmem/tilelink/message.h"
#include "transport/base/check.h"

namespace oxmem::channel {

// What a TileLink message under way belongs to.
struct MessageSlot {
  uint64_t offset = 0;  // of its data within the request
  uint32_t request = 0;
  uint32_t generation = 0;
  uint32_t next = 0;  // in the list of the request's messages, or of free slots
  uint32_t previous = 0;
  uint8_t size = 0;  // log2
  uint8_t opcode = 0;
  bool in_use = false;
};

// The TileLink source numbers of the messages under way. A number is the slot's index and, above
// it, how often the slot was used: an answer that comes after its request was given up finds a
// newer generation and is nobody's. The generation comes round only after tens of thousands of uses
// of one slot, and slots are reused in turn.
class SourceIds {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  // `count` is a power of two.
  explicit SourceIds(uint32_t count) : slots_(count), mask_(count - 1) {
    OXMEM_CHECK(count != 0 && (count & mask_) == 0 && count <= tilelink::kMaxSource);
    while ((1u << shift_) < count) ++shift_;
    for (uint32_t i = 0; i < count; ++i) slots_[i].next = i + 1 < count ? i + 1 : kNone;
    free_head_ = 0;
    free_tail_ = count - 1;
  }

  bool available() const { return free_head_ != kNone; }
  MessageSlot& operator[](uint32_t index) { return slots_[index]; }

  // The index of a slot taken from the front of the free list; available() must hold.
  uint32_t Take() {
    const uint32_t index = free_head_;
    OXMEM_CHECK(index != kNone);
    free_head_ = slots_[index].next;
    if (free_head_ == kNone) free_tail_ = kNone;
    slots_[index].in_use = true;
    return index;
  }

  void Release(uint32_t index) {
    MessageSlot& slot = slots_[index];
    OXMEM_CHECK(slot.in_use);
    slot.in_use = false;
    slot.generation = (slot.generation + 1) & (tilelink::kMaxSource >> shift_);
    slot.next = kNone;
    if (free_tail_ == kNone) {
      free_head_ = index;
    } else {
      slots_[free_tail_].next = index;
    }
    free_tail_ = index;
  }

  // Undoes Take for a slot whose number was not used: it is the next to be taken.
  void PutBack(uint32_t index) {
    slots_[index].in_use = false;
    slots_[index].next = free_head_;
    free_head_ = index;
    if (free_tail_ == kNone) free_tail_ = index;
  }

  uint32_t SourceOf(uint32_t index) const { return slots_[index].generation << shift_ | index; }

  // The slot a received source number stands for, or kNone if nobody waits for it.
  uint32_t Find(uint32_t source) const {
    const uint32_t index = source & mask_;
    const MessageSlot& slot = slots_[index];
    return slot.in_use && slot.generation == source >> shift_ ? index : kNone;
  }

 private:
  std::vector<MessageSlot> slots_;
  uint32_t mask_;
  uint32_t shift_ = 0;
  uint32_t free_head_ = kNone;
  uint32_t free_tail_ = kNone;
};

}  // namespace oxmem::channel

#endif  // OXMEM_CHANNEL_SOURCE_IDS_H_
