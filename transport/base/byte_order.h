#ifndef TRANSPORT_BASE_BYTE_ORDER_H_
#define TRANSPORT_BASE_BYTE_ORDER_H_

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "transport/base/check.h"

namespace oxmem {

static_assert(std::endian::native == std::endian::little ||
              std::endian::native == std::endian::big);

template <std::unsigned_integral T>
constexpr T ByteSwap(T value) {
  if constexpr (sizeof(T) == 1) {
    return value;
  } else if constexpr (sizeof(T) == 2) {
    return __builtin_bswap16(value);
  } else if constexpr (sizeof(T) == 4) {
    return __builtin_bswap32(value);
  } else {
    return __builtin_bswap64(value);
  }
}

// Unchecked loads and stores: the caller has shown that sizeof(T) bytes are there.
template <std::unsigned_integral T>
T LoadBigEndian(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return std::endian::native == std::endian::little ? ByteSwap(value) : value;
}

template <std::unsigned_integral T>
void StoreBigEndian(std::byte* to, T value) {
  if constexpr (std::endian::native == std::endian::little) value = ByteSwap(value);
  std::memcpy(to, &value, sizeof value);
}

template <std::unsigned_integral T>
T LoadLittleEndian(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return std::endian::native == std::endian::big ? ByteSwap(value) : value;
}

template <std::unsigned_integral T>
void StoreLittleEndian(std::byte* to, T value) {
  if constexpr (std::endian::native == std::endian::big) value = ByteSwap(value);
  std::memcpy(to, &value, sizeof value);
}

// Reads numbers off the front of a byte range and never past its end. A read that does not fit
// returns nothing and leaves the reader where it was.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  std::size_t remaining() const { return rest_.size(); }
  std::span<const std::byte> rest() const { return rest_; }

  template <std::unsigned_integral T>
  std::optional<T> ReadBigEndian() {
    if (rest_.size() < sizeof(T)) return std::nullopt;
    const T value = LoadBigEndian<T>(rest_.data());
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }

  std::optional<std::span<const std::byte>> ReadBytes(std::size_t count) {
    if (rest_.size() < count) return std::nullopt;
    const auto bytes = rest_.first(count);
    rest_ = rest_.subspan(count);
    return bytes;
  }

 private:
  std::span<const std::byte> rest_;
};

// Writes numbers to the front of a byte range. Running out of room is a bug of the caller, who has
// computed the length: it is checked and stops the program.
class ByteWriter {
 public:
  explicit ByteWriter(std::span<std::byte> bytes) : rest_(bytes) {}

  std::size_t remaining() const { return rest_.size(); }

  template <std::unsigned_integral T>
  void WriteBigEndian(T value) {
    OXMEM_CHECK(rest_.size() >= sizeof(T));
    StoreBigEndian(rest_.data(), value);
    rest_ = rest_.subspan(sizeof(T));
  }

  void WriteBytes(std::span<const std::byte> bytes) {
    OXMEM_CHECK(rest_.size() >= bytes.size());
    if (!bytes.empty()) std::memcpy(rest_.data(), bytes.data(), bytes.size());
    rest_ = rest_.subspan(bytes.size());
  }

 private:
  std::span<std::byte> rest_;
};

}  // namespace oxmem

#endif  // TRANSPORT_BASE_BYTE_ORDER_H_
