#include "transport/base/duration_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace oxmem {
namespace {

struct Unit {
  std::string_view name;
  int64_t nanoseconds;
};

constexpr int64_t kSecond = 1000000000;
// No moment from now on is past what an Instant holds.
constexpr int64_t kLongest = int64_t{876000} * 3600 * kSecond;
constexpr char kTooLong[] = "is longer than 100 years";
constexpr std::array<Unit, 6> kUnits = {{{"h", 3600 * kSecond},
                                         {"min", 60 * kSecond},
                                         {"s", kSecond},
                                         {"ms", 1000000},
                                         {"us", 1000},
                                         {"ns", 1}}};

absl::Status BadDuration(std::string_view text, const char* what) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", absl::CHexEscape(std::string(text)), "\" ", what));
}

}  // namespace

absl::StatusOr<Duration> ParseDuration(std::string_view text) {
  constexpr char kExpected[] = "is not a time (a whole number, then ns, us, ms, s, min or h)";
  // from_chars would take a sign, which no length of time has.
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  if (digits == 0) return BadDuration(text, kExpected);
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + digits, count);
  if (error == std::errc::result_out_of_range) return BadDuration(text, kTooLong);
  const std::string_view unit_name = text.substr(digits);
  if (unit_name.empty() && count == 0) return Duration();
  const auto* unit = std::find_if(kUnits.begin(), kUnits.end(),
                                  [&](const Unit& each) { return each.name == unit_name; });
  if (unit == kUnits.end()) return BadDuration(text, kExpected);
  int64_t nanoseconds = 0;
  if (__builtin_mul_overflow(count, unit->nanoseconds, &nanoseconds) || nanoseconds > kLongest) {
    return BadDuration(text, kTooLong);
  }
  return Duration::Nanoseconds(nanoseconds);
}

std::string FormatDuration(Duration duration) {
  const int64_t nanoseconds = duration.nanoseconds();
  if (nanoseconds == 0) return "0";
  for (const Unit& unit : kUnits) {
    if (nanoseconds % unit.nanoseconds == 0) {
      return absl::StrCat(nanoseconds / unit.nanoseconds, std::string(unit.name));
    }
  }
  return absl::StrCat(nanoseconds, "ns");
}

}  // namespace oxmem
