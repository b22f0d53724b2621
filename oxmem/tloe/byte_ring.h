#ifndef OXMEM_TLOE_BYTE_RING_H_
#define OXMEM_TLOE_BYTE_RING_H_

#include <cstddef>
#include <memory>
#include <span>

namespace oxmem::tloe {

// Bytes in pieces that are contiguous each, added at the head and freed from the tail in the same
// order. A piece that does not fit before the end starts again at the front.
class ByteRing {
 public:
  explicit ByteRing(std::size_t size)
      : size_(size), bytes_(std::make_unique_for_overwrite<std::byte[]>(size)) {}

  std::size_t size() const { return size_; }
  bool HasRoom(std::size_t count) const { return Find(count, head_, empty_).count != 0; }
  // Whether there is room for `count` once `taken` bytes of `room` are.
  bool HasRoomAfter(std::span<const std::byte> room, std::size_t taken, std::size_t count) const {
    return Find(count, OffsetOf(room) + taken, false).count != 0;
  }

  // The longest contiguous room of at least `count` (not zero) bytes, empty if there is none.
  std::span<std::byte> Room(std::size_t count) {
    const Range room = Find(count, head_, empty_);
    return {bytes_.get() + room.offset, room.count};
  }
  // Takes the first `count` bytes of a room just found; returns their offset.
  std::size_t Take(std::span<std::byte> room, std::size_t count) {
    const std::size_t offset = OffsetOf(room);
    head_ = offset + count;
    empty_ = false;
    return offset;
  }

  std::byte* At(std::size_t offset) { return bytes_.get() + offset; }

  // Everything before the piece at `offset` is free.
  void FreeUpTo(std::size_t offset) { tail_ = offset; }
  void FreeAll() {
    head_ = tail_ = 0;
    empty_ = true;
  }

 private:
  struct Range {
    std::size_t offset;
    std::size_t count;
  };

  std::size_t OffsetOf(std::span<const std::byte> room) const {
    return static_cast<std::size_t>(room.data() - bytes_.get());
  }

  Range Find(std::size_t count, std::size_t head, bool empty) const {
    const auto at_least = [count](std::size_t offset, std::size_t room) {
      return room >= count ? Range{offset, room} : Range{0, 0};
    };
    if (empty) return at_least(0, size_);
    if (head <= tail_) return at_least(head, tail_ - head);
    if (size_ - head >= count) return {head, size_ - head};
    return at_least(0, tail_);
  }

  std::size_t size_;
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
  bool empty_ = true;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_BYTE_RING_H_
