#ifndef OXMEM_TLOE_RECEIVE_WINDOW_H_
#define OXMEM_TLOE_RECEIVE_WINDOW_H_

#include <cstdint>

#include "oxmem/tloe/sequence_number.h"

namespace oxmem::tloe {

// Decides by its number what a received frame is (section 4, NEXT_RX_SEQ).
class ReceiveWindow {
 public:
  enum class Place : uint8_t { kInOrder, kDuplicate, kGap };

  // `accept_gaps`: the peer never sends a frame again, so a missing number is gone for good and the
  // next one counts as in order; one that comes late is taken once.
  void Reset(SequenceNumber expected, bool accept_gaps) {
    expected_ = expected;
    accept_gaps_ = accept_gaps;
    recent_ = ~uint64_t{0};
  }
  void AcceptGaps() { accept_gaps_ = true; }

  Place Classify(SequenceNumber number) const {
    const uint32_t behind = expected_.DistanceFrom(number);
    if (behind == 0) return Place::kInOrder;
    // The specification counts exactly half of the numbers as duplicates too.
    if (behind > SequenceNumber::kHalf) return accept_gaps_ ? Place::kInOrder : Place::kGap;
    if (accept_gaps_ && behind <= 64 && (recent_ >> (behind - 1) & 1) == 0) return Place::kInOrder;
    return Place::kDuplicate;
  }

  bool IsBehind(SequenceNumber number) const {
    const uint32_t behind = expected_.DistanceFrom(number);
    return behind != 0 && behind <= SequenceNumber::kHalf;
  }

  // A frame classified as in order was taken.
  void Accept(SequenceNumber number) {
    const uint32_t behind = expected_.DistanceFrom(number);
    if (behind != 0 && behind <= SequenceNumber::kHalf) {
      recent_ |= uint64_t{1} << (behind - 1);
      return;
    }
    const uint32_t steps = number.DistanceFrom(expected_) + 1;
    recent_ = steps >= 64 ? 1 : recent_ << steps | 1;
    expected_ = number.Next();
  }

  SequenceNumber expected() const { return expected_; }
  SequenceNumber last() const { return expected_.Previous(); }

 private:
  SequenceNumber expected_;
  bool accept_gaps_ = false;
  // Bit i: the number expected_ - 1 - i was received. Everything before the start counts as.
  uint64_t recent_ = ~uint64_t{0};
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_RECEIVE_WINDOW_H_
