#ifndef OXMEM_NODE_DEADLINE_HEAP_H_
#define OXMEM_NODE_DEADLINE_HEAP_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "transport/base/clock.h"

namespace oxmem::node {

// The deadlines of many things, known by small numbers, soonest first. Setting one costs the
// logarithm of how many are set, so that thousands of connections cost a request nothing.
class DeadlineHeap {
 public:
  // Sets, changes, or with Instant::Never() removes the deadline of `id`.
  void Set(uint32_t id, Instant deadline);

  Instant soonest() const { return heap_.empty() ? Instant::Never() : heap_[0].deadline; }
  // The id of the soonest; only when soonest() is not Never.
  uint32_t soonest_id() const { return heap_[0].id; }

 private:
  struct Entry {
    Instant deadline;
    uint32_t id;
  };
  static constexpr std::size_t kAbsent = SIZE_MAX;

  void Place(std::size_t position, Entry entry);
  void SiftUp(std::size_t position);
  void SiftDown(std::size_t position);

  std::vector<Entry> heap_;
  std::vector<std::size_t> position_of_;  // by id
};

}  // namespace oxmem::node

#endif  // OXMEM_NODE_DEADLINE_HEAP_H_
