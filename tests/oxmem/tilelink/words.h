#ifndef TESTS_OXMEM_TILELINK_WORDS_H_
#define TESTS_OXMEM_TILELINK_WORDS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "transport/base/byte_order.h"

namespace oxmem::tilelink {

// 64-bit words as they travel, and back: tests compare words, which read like the figures of the
// specification.
inline std::vector<std::byte> BytesOf(const std::vector<uint64_t>& words) {
  std::vector<std::byte> bytes(words.size() * 8);
  for (std::size_t i = 0; i < words.size(); ++i) StoreBigEndian(bytes.data() + 8 * i, words[i]);
  return bytes;
}

inline std::vector<uint64_t> WordsOf(std::span<const std::byte> bytes) {
  std::vector<uint64_t> words(bytes.size() / 8);
  for (std::size_t i = 0; i < words.size(); ++i)
    words[i] = LoadBigEndian<uint64_t>(bytes.data() + 8 * i);
  return words;
}

// first, first + 1, …: the data of the specification's examples.
inline std::vector<std::byte> Counting(std::size_t count, int first) {
  std::vector<std::byte> bytes(count);
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(first + i);
  return bytes;
}

}  // namespace oxmem::tilelink

#endif  // TESTS_OXMEM_TILELINK_WORDS_H_
