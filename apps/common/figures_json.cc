#include "apps/common/figures_json.h"

#include <cmath>

#include "apps/common/version.h"

namespace oxmem::apps {
namespace {

// Nanosecond precision without the digits of a binary fraction.
double Microseconds(double ns) { return std::round(ns) / 1000.0; }

// Of two of these, taken one after the other, follows what happened between.
Json BucketsJson(const Histogram& histogram) {
  Json json = Json::array();
  uint64_t before = 0;
  for (std::size_t bucket = 0; before < histogram.count() && bucket < Histogram::kBuckets;
       ++bucket) {
    const uint64_t bound_ns = Histogram::UpperBoundNs(bucket);
    const uint64_t up_to = histogram.CountAtMost(bound_ns);
    if (up_to != before) json.push_back({bound_ns, up_to - before});
    before = up_to;
  }
  return json;
}

Json PartJson(const Part& part) {
  Json json;
  json["kind"] = part.kind;
  json["name"] = part.name;
  for (const auto& [key, value] : part.facts) json["facts"][key] = value;
  for (const Figure& figure : part.figures) json["counters"][figure.name] = figure.value;
  for (const LatencyFigure& latency : part.latencies) {
    json[latency.name] = LatencyJson(*latency.histogram);
    json[latency.name]["buckets_ns"] = BucketsJson(*latency.histogram);
  }
  return json;
}

}  // namespace

std::string JsonText(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string Utf8Text(const std::string& bytes) {
  return Json::parse(JsonText(bytes)).get<std::string>();
}

Json LatencyJson(const Histogram& histogram) {
  Json json;
  json["count"] = histogram.count();
  if (histogram.count() == 0) return json;
  const auto percentile = [&](double fraction) {
    return Microseconds(static_cast<double>(histogram.PercentileNs(fraction)));
  };
  json["min_us"] = Microseconds(static_cast<double>(histogram.min_ns()));
  json["mean_us"] = Microseconds(histogram.mean_ns());
  json["p50_us"] = percentile(0.5);
  json["p90_us"] = percentile(0.9);
  json["p99_us"] = percentile(0.99);
  json["p999_us"] = percentile(0.999);
  json["max_us"] = Microseconds(static_cast<double>(histogram.max_ns()));
  return json;
}

Json FiguresJson(const ProcessFigures& process) {
  Json json;
  json["version"] = kFiguresVersion;
  json["oxmem"] = kVersion;
  json["pid"] = process.pid;
  json["command"] = process.command;
  json["name"] = process.name;
  json["uptime_seconds"] = std::round(process.uptime.seconds() * 1000.0) / 1000.0;
  json["resident_bytes"] = process.resident_bytes;
  json["parts"] = Json::array();
  for (const Part& part : process.parts) json["parts"].push_back(PartJson(part));
  return json;
}

}  // namespace oxmem::apps
