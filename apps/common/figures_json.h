#ifndef APPS_COMMON_FIGURES_JSON_H_
#define APPS_COMMON_FIGURES_JSON_H_

#include <string>

#include "apps/common/figures.h"
#include "nlohmann/json.hpp"
#include "transport/base/histogram.h"

namespace oxmem::apps {

// Keeps keys in the order they were put in, so that people can read it too.
using Json = nlohmann::ordered_json;

// Names of files and directories may be any bytes; what is not UTF-8 in them becomes U+FFFD.
std::string JsonText(const Json& json, int indent = -1);
// The same of a text alone, without the quotes.
std::string Utf8Text(const std::string& bytes);

// Of the document that a control socket answers `stats` with; grows when a field changes its
// meaning or goes away.
inline constexpr int kFiguresVersion = 1;

// {"count": …, "min_us": …, "mean_us": …, "p50_us": …, "p90_us", "p99_us", "p999_us", "max_us"};
// only the count if nothing was recorded.
Json LatencyJson(const Histogram& histogram);

// Every latency of a part has besides, as "buckets_ns", its histogram: pairs of the largest latency
// that falls in a bucket and how many did, the empty ones left out.
Json FiguresJson(const ProcessFigures& process);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_FIGURES_JSON_H_
