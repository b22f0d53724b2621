#ifndef OXMEM_CHANNEL_SPLIT_H_
#define OXMEM_CHANNEL_SPLIT_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace oxmem::channel {

// The largest legal TileLink message at the front of [address, address + length): a power of two,
// naturally aligned (TileLink 1.8.0 section 4.6), no more than 2^limit bytes. Returns its log2.
// `length` is at least 1.
inline uint8_t NextMessageSize(uint64_t address, uint64_t length, uint8_t limit) {
  const int by_length = std::bit_width(length) - 1;
  const int by_alignment = address == 0 ? 63 : std::countr_zero(address);
  return static_cast<uint8_t>(std::min({by_length, by_alignment, static_cast<int>(limit)}));
}

// How to fill a frame. As sizes are powers of two, the largest message that fits may leave nearly
// half of it empty (a third at an MTU of 1500); up to two small ones take most of that. They come
// first and the large one last, since a message cannot start behind flit 63.
struct FrameFill {
  std::array<uint8_t, 2> small{};  // log2
  std::size_t small_count = 0;     // 0: frames are not worth filling
  uint8_t large = 0;               // log2

  uint64_t bytes() const {
    uint64_t sum = uint64_t{1} << large;
    for (std::size_t i = 0; i < small_count; ++i) sum += uint64_t{1} << small[i];
    return sum;
  }
};

// For frames of `frame_flits` flits where messages of at most 2^largest bytes of data have
// `overhead_flits` beside them and start at one of the first `starts` flits.
FrameFill FillFor(std::size_t frame_flits, std::size_t overhead_flits, uint8_t largest,
                  std::size_t starts);

// Where a message lies in its request.
struct Piece {
  uint64_t offset = 0;
  uint8_t size = 0;  // log2
};

// The message to send after `sent` bytes of a request for [address, address + length) are in
// messages; sent < length. A long request goes in frames as `fill` has them, its large messages
// from the front of the range and each size of the small ones from a part behind that, so that all
// lie at multiples of their sizes; what is before and after these frames goes in order.
Piece NextPiece(uint64_t address, uint64_t length, uint64_t sent, uint8_t largest,
                const FrameFill& fill);

}  // namespace oxmem::channel

#endif  // OXMEM_CHANNEL_SPLIT_H_
