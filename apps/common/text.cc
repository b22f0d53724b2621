#include "apps/common/text.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace oxmem::apps {
namespace {

// Three significant digits and never an exponent, for values below 1000.
std::string ThreeDigits(double value) {
  if (value >= 99.95) return absl::StrFormat("%.0f", value);
  if (value >= 9.995) return absl::StrFormat("%.1f", value);
  return absl::StrFormat("%.2f", value);
}

std::string Scaled(double value, const std::vector<const char*>& units) {
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < units.size()) {
    value /= 1000.0;
    ++unit;
  }
  const std::string digits = unit == 0 ? absl::StrFormat("%.0f", value) : ThreeDigits(value);
  return absl::StrCat(digits, units[unit]);
}

}  // namespace

std::string FormatLatency(double ns) { return Scaled(ns, {" ns", " us", " ms", " s"}); }

std::string FormatCount(double count) { return Scaled(count, {"", " k", " M", " G"}); }

std::string FormatThroughput(double bytes_per_second) {
  return Scaled(bytes_per_second, {" B/s", " kB/s", " MB/s", " GB/s", " TB/s"});
}

std::string LatencyLine(const Histogram& histogram) {
  const auto at = [&](double fraction) {
    return FormatLatency(static_cast<double>(histogram.PercentileNs(fraction)));
  };
  return absl::StrCat("latency: min ", FormatLatency(static_cast<double>(histogram.min_ns())),
                      ", avg ", FormatLatency(histogram.mean_ns()), ", p50 ", at(0.5), ", p99 ",
                      at(0.99), ", p99.9 ", at(0.999), ", max ",
                      FormatLatency(static_cast<double>(histogram.max_ns())));
}

std::string LatencyChart(const Histogram& histogram) {
  constexpr int kBarWidth = 40;
  struct Row {
    uint64_t up_to_ns;
    uint64_t count;
  };
  std::vector<Row> rows;
  uint64_t before = 0;
  for (int exponent = 0; exponent < Histogram::kLargestExponent; ++exponent) {
    const uint64_t limit = (uint64_t{1} << exponent) - 1;
    const uint64_t up_to = histogram.CountAtMost(limit);
    if (!rows.empty() || up_to != before) rows.push_back({limit + 1, up_to - before});
    before = up_to;
    if (before == histogram.count()) break;
  }
  uint64_t most = 1;
  for (const Row& row : rows) most = std::max(most, row.count);
  std::string out;
  for (const Row& row : rows) {
    const auto width = static_cast<std::size_t>(
        std::ceil(static_cast<double>(row.count) * kBarWidth / static_cast<double>(most)));
    absl::StrAppendFormat(&out, "  < %8s %10d %s\n",
                          FormatLatency(static_cast<double>(row.up_to_ns)), row.count,
                          std::string(width, '#'));
  }
  return out;
}

std::string FactsText(const Facts& facts) {
  std::size_t widest = 0;
  for (const auto& [key, value] : facts) widest = std::max(widest, key.size());
  std::string out;
  for (const auto& [key, value] : facts) {
    absl::StrAppendFormat(&out, "%-*s  %s\n", static_cast<int>(widest), key, value);
  }
  return out;
}

}  // namespace oxmem::apps
