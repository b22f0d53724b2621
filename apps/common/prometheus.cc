#include "apps/common/prometheus.h"

#include <array>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/common/figures_json.h"
#include "apps/common/version.h"

namespace oxmem::apps {
namespace {

// Bounds of the latency buckets: 1, 2, 5 in every decade from 1 µs to 10 s.
constexpr std::array<uint64_t, 22> kBucketsNs = {
    1'000,         2'000,         5'000,         10'000,        20'000,      50'000,
    100'000,       200'000,       500'000,       1'000'000,     2'000'000,   5'000'000,
    10'000'000,    20'000'000,    50'000'000,    100'000'000,   200'000'000, 500'000'000,
    1'000'000'000, 2'000'000'000, 5'000'000'000, 10'000'000'000};

std::string LabelValue(const std::string& text) {
  std::string out;
  for (const char c : Utf8Text(text)) {
    if (c == '\\' || c == '"') out.push_back('\\');
    if (c == '\n') {
      out += "\\n";
    } else {
      out.push_back(c);
    }
  }
  return out;
}

// One metric with its samples: the format wants them together.
struct Metric {
  std::string type;
  std::string help;
  std::string samples;
};

// Metrics in the order of their first sample.
class MetricTable {
 public:
  Metric& Get(const std::string& name, const char* type, const std::string& help) {
    const auto [found, is_new] = index_.try_emplace(name, metrics_.size());
    if (is_new) metrics_.push_back({name, {type, help, ""}});
    return metrics_[found->second].second;
  }

  std::string Text() const {
    std::string out;
    for (const auto& [name, metric] : metrics_) {
      absl::StrAppend(&out, "# HELP ", name, " ", metric.help, "\n# TYPE ", name, " ", metric.type,
                      "\n", metric.samples);
    }
    return out;
  }

 private:
  std::vector<std::pair<std::string, Metric>> metrics_;
  std::map<std::string, std::size_t> index_;
};

void AddHistogram(MetricTable& table, const Part& part, const LatencyFigure& latency,
                  const std::string& labels) {
  const std::string name = absl::StrCat("oxmem_", part.kind, "_", latency.name, "_seconds");
  Metric& metric = table.Get(name, "histogram", latency.description);
  const Histogram& histogram = *latency.histogram;
  for (const uint64_t bound_ns : kBucketsNs) {
    absl::StrAppendFormat(&metric.samples, "%s_bucket{%s,le=\"%g\"} %d\n", name, labels,
                          static_cast<double>(bound_ns) * 1e-9, histogram.CountAtMost(bound_ns));
  }
  // From the buckets too, so that a record that is being made cannot make the last one smaller.
  const uint64_t count = histogram.CountAtMost(UINT64_MAX);
  absl::StrAppendFormat(&metric.samples,
                        "%s_bucket{%s,le=\"+Inf\"} %d\n%s_sum{%s} %.9g\n%s_count{%s} %d\n", name,
                        labels, count, name, labels, static_cast<double>(histogram.sum_ns()) * 1e-9,
                        name, labels, count);
}

void AddPart(MetricTable& table, const ProcessFigures& process, const Part& part) {
  const std::string labels = absl::StrCat("process=\"", LabelValue(process.name), "\",", part.kind,
                                          "=\"", LabelValue(part.name), "\"");
  for (const Figure& figure : part.figures) {
    const std::string name =
        absl::StrCat("oxmem_", part.kind, "_", figure.name, figure.is_level ? "" : "_total");
    Metric& metric = table.Get(name, figure.is_level ? "gauge" : "counter", figure.description);
    absl::StrAppend(&metric.samples, name, "{", labels, "} ", figure.value, "\n");
  }
  for (const LatencyFigure& latency : part.latencies) AddHistogram(table, part, latency, labels);
}

}  // namespace

std::string PrometheusText(const ProcessFigures& process) {
  MetricTable table;
  const std::string label = absl::StrCat("process=\"", LabelValue(process.name), "\"");
  table.Get("oxmem_build_info", "gauge", "the version, always 1").samples =
      absl::StrCat("oxmem_build_info{", label, ",command=\"", process.command, "\",version=\"",
                   kVersion, "\"} 1\n");
  table.Get("oxmem_uptime_seconds", "gauge", "since the process began").samples =
      absl::StrFormat("oxmem_uptime_seconds{%s} %.3f\n", label, process.uptime.seconds());
  table.Get("oxmem_resident_bytes", "gauge", "resident memory of the process").samples =
      absl::StrCat("oxmem_resident_bytes{", label, "} ", process.resident_bytes, "\n");
  for (const Part& part : process.parts) AddPart(table, process, part);
  return table.Text();
}

}  // namespace oxmem::apps
