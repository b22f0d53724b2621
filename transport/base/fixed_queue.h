#ifndef TRANSPORT_BASE_FIXED_QUEUE_H_
#define TRANSPORT_BASE_FIXED_QUEUE_H_

#include <cstddef>
#include <vector>

#include "transport/base/check.h"

namespace oxmem {

// First in, first out, with room for a number of elements that is known beforehand: it allocates
// once, and overflow is a bug.
template <typename T>
class FixedQueue {
 public:
  explicit FixedQueue(std::size_t capacity) : slots_(capacity) {}

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

  void Push(const T& value) {
    OXMEM_CHECK(size_ < slots_.size());
    slots_[Wrap(first_ + size_)] = value;
    ++size_;
  }
  T& front() { return (*this)[0]; }
  const T& front() const {
    OXMEM_CHECK(size_ != 0);
    return slots_[first_];
  }
  // The i-th from the front.
  T& operator[](std::size_t i) {
    OXMEM_CHECK(i < size_);
    return slots_[Wrap(first_ + i)];
  }
  void Pop() {
    OXMEM_CHECK(size_ != 0);
    first_ = Wrap(first_ + 1);
    --size_;
  }

 private:
  std::size_t Wrap(std::size_t slot) const {
    return slot >= slots_.size() ? slot - slots_.size() : slot;
  }

  std::vector<T> slots_;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace oxmem

#endif  // TRANSPORT_BASE_FIXED_QUEUE_H_
