#ifndef TRANSPORT_BASE_SIZE_H_
#define TRANSPORT_BASE_SIZE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace oxmem {

// "4096", "8K", "2m", "8G", "1T", "0x1000": bytes, suffixes are powers of 1024. Trailing text, a
// sign, an empty string and a value past 2^64-1 are errors that quote the text.
absl::StatusOr<uint64_t> ParseSize(std::string_view text);

// Decimal, or hexadecimal after 0x; no suffix.
absl::StatusOr<uint64_t> ParseNumber(std::string_view text);

// "8G", "1536M", "4097": the shortest exact form that ParseSize reads back.
std::string FormatSize(uint64_t bytes);

// "1.5 GiB": rounded, for people.
std::string FormatSizeForPeople(uint64_t bytes);

constexpr std::optional<uint64_t> CheckedAdd(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

constexpr std::optional<uint64_t> CheckedMultiply(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// Whether [offset, offset + length) lies within [0, size), without wrapping.
constexpr bool RangeFits(uint64_t offset, uint64_t length, uint64_t size) {
  return length <= size && offset <= size - length;
}

}  // namespace oxmem

#endif  // TRANSPORT_BASE_SIZE_H_
