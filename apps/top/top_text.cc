#include "apps/top/top_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace oxmem::apps {
namespace {

// From here on there is room for one percentile more.
constexpr int kWideColumns = 100;
// What stands behind the name, see TopLine.
constexpr int kFixedColumns = 62;
constexpr std::size_t kLongestFirstWord = 8;
constexpr int kWideFixedColumns = kFixedColumns + 7;

bool IsWide(int columns) { return columns >= kWideColumns; }

int NameWidth(int columns) {
  return std::max(columns, kTopColumns) - (IsWide(columns) ? kWideFixedColumns : kFixedColumns);
}

std::string ThreeDigits(double value) {
  if (value >= 99.95) return absl::StrFormat("%.0f", value);
  if (value >= 9.995) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.2f", value);
}

std::string Scaled(double value, const char* const* units, std::size_t count) {
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < count) {
    value /= 1000.0;
    ++unit;
  }
  return absl::StrCat(ThreeDigits(value), units[unit]);
}

const char* ShortMode(const std::string& mode) {
  if (mode == "passthrough") return "dax";
  if (mode == "page-cache") return "page";
  if (mode == "direct") return "dir";
  return "";
}

bool BeginsCharacter(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

double Microseconds(uint64_t ns) { return static_cast<double>(ns) / 1000.0; }

}  // namespace

std::string ShortRate(double per_second) {
  constexpr std::array<const char*, 6> kUnits = {"", "k", "M", "G", "T", "P"};
  if (per_second < 0.005) return "0";
  if (per_second < 999.5 && std::abs(per_second - std::round(per_second)) < 0.005) {
    return absl::StrFormat("%.0f", per_second);
  }
  return Scaled(per_second, kUnits.data(), kUnits.size());
}

std::string ShortLatency(uint64_t ns) {
  constexpr std::array<const char*, 4> kUnits = {"ns", "us", "ms", "s"};
  if (ns < 1000) return absl::StrCat(ns, "ns");
  return Scaled(static_cast<double>(ns), kUnits.data(), kUnits.size());
}

std::string FitName(const std::string& text, int width) {
  int length = 0;
  for (const char c : text) length += BeginsCharacter(c) ? 1 : 0;
  if (length <= width) {
    return absl::StrCat(text, std::string(static_cast<std::size_t>(width - length), ' '));
  }
  // A short first word says what the rest is: "mount ~/the/end".
  std::size_t kept = text.find(' ');
  kept = kept == std::string::npos || kept >= kLongestFirstWord ? 0 : kept + 1;
  if (static_cast<int>(kept) * 2 > width) kept = 0;
  std::size_t begin = kept;
  while (length >= width && begin < text.size()) {
    ++begin;
    while (begin < text.size() && !BeginsCharacter(text[begin])) ++begin;
    --length;
  }
  return absl::StrCat(text.substr(0, kept), "~", text.substr(begin));
}

std::string TopHeading(int columns) {
  return absl::StrFormat("%s %4s %6s %5s %6s %5s %6s %6s %s%4s %5s %5s",
                         FitName("NAME", NameWidth(columns)), "MODE", "READ/s", "B/s", "WRIT/s",
                         "B/s", "P50", "P99", IsWide(columns) ? " P99.9 " : "", "FLY", "RSN/s",
                         "ERR/s");
}

std::string TopLine(const TopRow& row, int columns) {
  const auto rate = [&](double TopRates::*which) {
    return row.rates.has_value() ? ShortRate((*row.rates).*which) : std::string("-");
  };
  const auto latency = [&](uint64_t TopLatencies::*which) {
    return row.latencies.has_value() ? ShortLatency((*row.latencies).*which) : std::string("-");
  };
  const std::string indent(static_cast<std::size_t>(row.indent) * 2, ' ');
  const int name_width = NameWidth(columns) - static_cast<int>(indent.size());
  return absl::StrFormat(
      "%s%s %4s %6s %5s %6s %5s %6s %6s %s%4s %5s %5s", indent, FitName(row.name, name_width),
      ShortMode(row.mode), rate(&TopRates::reads), rate(&TopRates::read_bytes),
      rate(&TopRates::writes), rate(&TopRates::write_bytes), latency(&TopLatencies::p50_ns),
      latency(&TopLatencies::p99_ns),
      IsWide(columns) ? absl::StrFormat("%6s ", latency(&TopLatencies::p999_ns)) : "",
      absl::StrCat(std::min<uint64_t>(row.in_flight, 9999)), rate(&TopRates::resends),
      rate(&TopRates::failures));
}

Json TopJson(const TopRow& row) {
  Json json;
  json["name"] = row.name;
  json["indent"] = row.indent;
  if (!row.mode.empty()) json["mode"] = row.mode;
  json["in_flight"] = row.in_flight;
  if (row.rates.has_value()) {
    json["reads_per_second"] = row.rates->reads;
    json["read_bytes_per_second"] = row.rates->read_bytes;
    json["writes_per_second"] = row.rates->writes;
    json["write_bytes_per_second"] = row.rates->write_bytes;
    json["resends_per_second"] = row.rates->resends;
    json["failures_per_second"] = row.rates->failures;
  }
  if (row.latencies.has_value()) {
    json["p50_us"] = Microseconds(row.latencies->p50_ns);
    json["p99_us"] = Microseconds(row.latencies->p99_ns);
    json["p999_us"] = Microseconds(row.latencies->p999_ns);
  }
  return json;
}

}  // namespace oxmem::apps
