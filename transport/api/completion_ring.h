#ifndef TRANSPORT_API_COMPLETION_RING_H_
#define TRANSPORT_API_COMPLETION_RING_H_

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "transport/api/request.h"
#include "transport/base/check.h"

namespace oxmem::transport {

// Finished requests that wait for Poll, first in first out. Allocates once.
class CompletionRing {
 public:
  explicit CompletionRing(std::size_t capacity) : slots_(capacity) {}

  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == slots_.size(); }

  // The ring is not full: a channel never accepts more than it has room to complete.
  void Push(const Completion& completion) {
    OXMEM_CHECK(!full());
    std::size_t slot = first_ + size_;
    if (slot >= slots_.size()) slot -= slots_.size();
    slots_[slot] = completion;
    ++size_;
  }

  // Moves the oldest out and returns how many.
  std::size_t Pop(std::span<Completion> out) {
    const std::size_t count = std::min(out.size(), size_);
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = slots_[first_];
      if (++first_ == slots_.size()) first_ = 0;
    }
    size_ -= count;
    return count;
  }

 private:
  std::vector<Completion> slots_;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_COMPLETION_RING_H_
