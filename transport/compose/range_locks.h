#ifndef TRANSPORT_COMPOSE_RANGE_LOCKS_H_
#define TRANSPORT_COMPOSE_RANGE_LOCKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "transport/base/check.h"

namespace oxmem::transport {

// The ranges that something under way changes. A list that is scanned: there are as many entries as
// writes in flight, a few dozen next to each other in memory. Allocates once.
class RangeLocks {
 public:
  explicit RangeLocks(std::size_t capacity) { ranges_.reserve(capacity); }

  // Whether a range but `except`'s own overlaps [offset, offset + length).
  bool Overlaps(uint64_t offset, uint64_t length, uint32_t except) const {
    for (const Range& range : ranges_) {
      if (range.owner != except && offset < range.end && range.begin < offset + length) return true;
    }
    return false;
  }

  void Add(uint32_t owner, uint64_t offset, uint64_t length) {
    OXMEM_CHECK(ranges_.size() < ranges_.capacity());
    ranges_.push_back({.begin = offset, .end = offset + length, .owner = owner});
  }

  // The owner has a range here.
  void Remove(uint32_t owner) {
    for (Range& range : ranges_) {
      if (range.owner != owner) continue;
      range = ranges_.back();
      ranges_.pop_back();
      return;
    }
    OXMEM_CHECK(false);
  }

 private:
  struct Range {
    uint64_t begin;
    uint64_t end;
    uint32_t owner;
  };
  std::vector<Range> ranges_;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_RANGE_LOCKS_H_
