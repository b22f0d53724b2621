#ifndef OXMEM_CHANNEL_COMPLETION_RING_H_
#define OXMEM_CHANNEL_COMPLETION_RING_H_

#include <cstddef>
#include <span>
#include <vector>

#include "transport/api/request.h"
#include "transport/base/check.h"

namespace oxmem::channel {

// Completions that wait to be polled, first in, first out, in fixed memory.
class CompletionRing {
 public:
  explicit CompletionRing(std::size_t capacity) : slots_(capacity) {}

  bool empty() const { return count_ == 0; }
  std::size_t size() const { return count_; }

  void Push(const transport::Completion& completion) {
    OXMEM_CHECK(count_ < slots_.size());
    const std::size_t at = head_ + count_;
    slots_[at < slots_.size() ? at : at - slots_.size()] = completion;
    ++count_;
  }

  std::size_t Drain(std::span<transport::Completion> to) {
    std::size_t n = 0;
    for (; n < to.size() && count_ > 0; ++n, --count_) {
      to[n] = slots_[head_];
      head_ = head_ + 1 == slots_.size() ? 0 : head_ + 1;
    }
    return n;
  }

 private:
  std::vector<transport::Completion> slots_;
  std::size_t head_ = 0;
  std::size_t count_ = 0;
};

}  // namespace oxmem::channel

#endif  // OXMEM_CHANNEL_COMPLETION_RING_H_
