#ifndef TESTS_FUZZ_BYTE_SOURCE_H_
#define TESTS_FUZZ_BYTE_SOURCE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

namespace oxmem::fuzz {

// Reads decisions off the front of a fuzz input; zeros when it has run out.
class ByteSource {
 public:
  ByteSource(const uint8_t* data, std::size_t size) : rest_(data, size) {}

  bool empty() const { return rest_.empty(); }
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const uint8_t value = rest_.front();
    rest_ = rest_.subspan(1);
    return value;
  }
  uint16_t Short() { return static_cast<uint16_t>(Byte() << 8 | Byte()); }
  uint64_t Word() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | Byte();
    return value;
  }
  // 0 to bound - 1.
  unsigned Below(unsigned bound) { return Byte() % bound; }
  // As many of them as there are.
  std::span<const std::byte> Bytes(std::size_t count) {
    count = std::min(count, rest_.size());
    const auto bytes = std::as_bytes(rest_.first(count));
    rest_ = rest_.subspan(count);
    return bytes;
  }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace oxmem::fuzz

#endif  // TESTS_FUZZ_BYTE_SOURCE_H_
