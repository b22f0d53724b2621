#ifndef TRANSPORT_RUNTIME_BOUNDED_QUEUE_H_
#define TRANSPORT_RUNTIME_BOUNDED_QUEUE_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace oxmem::transport {

// Pointers from any number of threads to one, first in first out for each sender, in a ring that is
// allocated once. A full queue refuses; nobody ever waits.
//
// Every cell carries a number that says whose turn it is: equal to a position, the sender that gets
// this position may fill it; one more, the receiver may empty it; emptied, it belongs to the
// position one lap later.
template <typename T>
class BoundedQueue {
 public:
  // Room for at least `capacity` pointers, rounded up to a power of two. With a single cell, full
  // and empty would have the same number; so there are two or more.
  explicit BoundedQueue(std::size_t capacity)
      : mask_(std::bit_ceil(std::max<std::size_t>(capacity, 2)) - 1),
        cells_(std::make_unique<Cell[]>(mask_ + 1)) {
    for (uint64_t i = 0; i <= mask_; ++i) cells_[i].turn.store(i, std::memory_order_relaxed);
  }

  std::size_t capacity() const { return mask_ + 1; }

  // Any thread. False if the queue is full.
  bool Push(T* value) {
    uint64_t position = tail_.load(std::memory_order_relaxed);
    while (true) {
      Cell& cell = cells_[position & mask_];
      const auto ahead = static_cast<int64_t>(cell.turn.load(std::memory_order_acquire) - position);
      if (ahead < 0) return false;
      if (ahead > 0) {
        position = tail_.load(std::memory_order_relaxed);
        continue;
      }
      if (!tail_.compare_exchange_weak(position, position + 1, std::memory_order_relaxed)) continue;
      cell.value = value;
      // Sequentially consistent, as is Empty: a sender that then looks whether the receiver sleeps,
      // and a receiver that says so and then looks here, cannot both miss each other.
      cell.turn.store(position + 1, std::memory_order_seq_cst);
      return true;
    }
  }

  // The receiving thread. Null if there is nothing, or a sender is not done yet with what is next.
  T* Pop() {
    Cell& cell = cells_[head_ & mask_];
    if (cell.turn.load(std::memory_order_acquire) != head_ + 1) return nullptr;
    T* const value = cell.value;
    cell.turn.store(head_ + mask_ + 1, std::memory_order_release);
    ++head_;
    return value;
  }

  // The receiving thread: whether Pop would return null.
  bool Empty() const {
    return cells_[head_ & mask_].turn.load(std::memory_order_seq_cst) != head_ + 1;
  }

 private:
  struct Cell {
    std::atomic<uint64_t> turn{0};
    T* value = nullptr;
  };

  const uint64_t mask_;
  const std::unique_ptr<Cell[]> cells_;
  alignas(64) std::atomic<uint64_t> tail_{0};
  alignas(64) uint64_t head_ = 0;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_RUNTIME_BOUNDED_QUEUE_H_
