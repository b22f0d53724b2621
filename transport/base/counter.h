#ifndef TRANSPORT_BASE_COUNTER_H_
#define TRANSPORT_BASE_COUNTER_H_

#include <atomic>
#include <cstdint>

namespace oxmem {

// A number one thread adds to and any thread reads. An addition costs what a plain one does.
class Counter {
 public:
  Counter() = default;
  Counter(const Counter& other) : value_(other.value()) {}
  Counter& operator=(const Counter& other) {
    value_.store(other.value(), std::memory_order_relaxed);
    return *this;
  }

  uint64_t value() const { return value_.load(std::memory_order_relaxed); }
  void Add(uint64_t n) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void Increment() { Add(1); }
  void Set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace oxmem

#endif  // TRANSPORT_BASE_COUNTER_H_
