#include "transport/base/size.h"

#include <array>
#include <charconv>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace oxmem {
namespace {

struct Unit {
  char letter;
  int shift;
};

constexpr std::array<Unit, 4> kUnits = {{{'T', 40}, {'G', 30}, {'M', 20}, {'K', 10}}};

absl::Status BadNumber(std::string_view text, const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("\"", std::string(text), "\" ", what));
}

}  // namespace

absl::StatusOr<uint64_t> ParseNumber(std::string_view text) {
  std::string_view digits = text;
  int base = 10;
  if (digits.starts_with("0x") || digits.starts_with("0X")) {
    digits.remove_prefix(2);
    base = 16;
  }
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error == std::errc::result_out_of_range) return BadNumber(text, "is past 2^64-1");
  if (error != std::errc() || end != digits.data() + digits.size()) {
    return BadNumber(text, "is not a number (decimal, or hexadecimal after 0x)");
  }
  return value;
}

absl::StatusOr<uint64_t> ParseSize(std::string_view text) {
  int shift = 0;
  std::string_view digits = text;
  if (!digits.empty()) {
    for (const Unit& unit : kUnits) {
      const char last = digits.back();
      if (last == unit.letter || last == unit.letter - 'A' + 'a') {
        shift = unit.shift;
        digits.remove_suffix(1);
        break;
      }
    }
  }
  const absl::StatusOr<uint64_t> count = ParseNumber(digits);
  if (!count.ok()) {
    if (count.status().message().find("past 2^64") != absl::string_view::npos) {
      return BadNumber(text, "is past 2^64-1 bytes");
    }
    return BadNumber(text, "is not a size (a number, then nothing or K, M, G or T)");
  }
  const auto bytes = CheckedMultiply(*count, uint64_t{1} << shift);
  if (!bytes) return BadNumber(text, "is past 2^64-1 bytes");
  return *bytes;
}

std::string FormatSize(uint64_t bytes) {
  for (const Unit& unit : kUnits) {
    const uint64_t one = uint64_t{1} << unit.shift;
    if (bytes >= one && bytes % one == 0) {
      return absl::StrCat(bytes / one, std::string(1, unit.letter));
    }
  }
  return absl::StrCat(bytes);
}

std::string FormatSizeForPeople(uint64_t bytes) {
  for (const Unit& unit : kUnits) {
    const double one = static_cast<double>(uint64_t{1} << unit.shift);
    if (static_cast<double>(bytes) >= one) {
      return absl::StrFormat("%.4g %ciB", static_cast<double>(bytes) / one, unit.letter);
    }
  }
  return absl::StrFormat("%d B", bytes);
}

}  // namespace oxmem
