#ifndef TRANSPORT_COMPOSE_SLOT_POOL_H_
#define TRANSPORT_COMPOSE_SLOT_POOL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "transport/base/check.h"

namespace oxmem::transport {

// Records of requests under way, named by an index that travels as the cookie of what is sent
// below. Allocates once.
template <typename T>
class SlotPool {
 public:
  explicit SlotPool(uint32_t capacity) : slots_(capacity) {
    free_.reserve(capacity);
    for (uint32_t i = capacity; i > 0; --i) free_.push_back(i - 1);
  }

  bool full() const { return free_.empty(); }
  std::size_t in_use() const { return slots_.size() - free_.size(); }

  // A fresh record; the pool is not full.
  uint32_t Take() {
    OXMEM_CHECK(!free_.empty());
    const uint32_t index = free_.back();
    free_.pop_back();
    slots_[index] = T();
    return index;
  }
  void Give(uint32_t index) { free_.push_back(index); }

  T& operator[](uint64_t index) {
    OXMEM_CHECK(index < slots_.size());
    return slots_[index];
  }
  const T& operator[](uint64_t index) const {
    OXMEM_CHECK(index < slots_.size());
    return slots_[index];
  }

 private:
  std::vector<T> slots_;
  std::vector<uint32_t> free_;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_SLOT_POOL_H_
