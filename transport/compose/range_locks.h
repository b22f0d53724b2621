#ifndef TRANSPORT_COMPOSE_RANGE_LOCKS_H_
#define TRANSPORT_COMPOSE_RANGE_LOCKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "transport/base/check.h"

namespace oxmem::transport {

// The ranges that something under way changes. A list that is scanned: there are as many entries as
// writes in flight, a few dozen next to each other in memory. Allocates in Reserve.
class RangeLocks {
 public:
  struct Owner {
    const void* channel = nullptr;
    uint32_t slot = 0;  // of the channel's
    friend bool operator==(const Owner&, const Owner&) = default;
  };

  // Room for so many more.
  void Reserve(std::size_t more) {
    room_ += more;
    ranges_.reserve(room_);
  }

  // Whether a range but `except`'s own overlaps [offset, offset + length).
  bool Overlaps(uint64_t offset, uint64_t length, Owner except) const {
    for (const Range& range : ranges_) {
      if (range.owner != except && offset < range.end && range.begin < offset + length) return true;
    }
    return false;
  }

  void Add(Owner owner, uint64_t offset, uint64_t length) {
    OXMEM_CHECK(ranges_.size() < room_);
    ranges_.push_back({.begin = offset, .end = offset + length, .owner = owner});
  }

  // The owner has a range here.
  void Remove(Owner owner) {
    for (Range& range : ranges_) {
      if (range.owner != owner) continue;
      range = ranges_.back();
      ranges_.pop_back();
      return;
    }
    OXMEM_CHECK(false);
  }

  // All of the channel's, and the room for them.
  void RemoveAll(const void* channel, std::size_t room) {
    std::erase_if(ranges_,
                  [channel](const Range& range) { return range.owner.channel == channel; });
    room_ -= room;
  }

 private:
  struct Range {
    uint64_t begin;
    uint64_t end;
    Owner owner;
  };
  std::vector<Range> ranges_;
  std::size_t room_ = 0;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_RANGE_LOCKS_H_
