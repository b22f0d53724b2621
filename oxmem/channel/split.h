#ifndef OXMEM_CHANNEL_SPLIT_H_
#define OXMEM_CHANNEL_SPLIT_H_

#include <algorithm>
#include <bit>
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

}  // namespace oxmem::channel

#endif  // OXMEM_CHANNEL_SPLIT_H_
