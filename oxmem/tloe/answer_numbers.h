#ifndef OXMEM_TLOE_ANSWER_NUMBERS_H_
#define OXMEM_TLOE_ANSWER_NUMBERS_H_

#include <array>
#include <cstddef>
#include <memory>
#include <optional>

#include "oxmem/tloe/sequence_number.h"

namespace oxmem::tloe {

// The frame numbers of requests that were not answered yet, in order. Takes memory with the first
// one only, as few peers need it.
class AnswerNumbers {
 public:
  static constexpr std::size_t kCapacity = 4096;

  bool HasRoom(std::size_t count) const { return size_ + count <= kCapacity; }
  void Push(SequenceNumber number) {
    if (!numbers_) numbers_ = std::make_unique<std::array<SequenceNumber, kCapacity>>();
    (*numbers_)[(first_ + size_++) % kCapacity] = number;
  }
  std::optional<SequenceNumber> Pop() {
    if (size_ == 0) return std::nullopt;
    const SequenceNumber number = (*numbers_)[first_];
    first_ = (first_ + 1) % kCapacity;
    --size_;
    return number;
  }
  void Clear() { first_ = size_ = 0; }

 private:
  std::unique_ptr<std::array<SequenceNumber, kCapacity>> numbers_;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_ANSWER_NUMBERS_H_
