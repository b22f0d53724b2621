#ifndef APPS_COMMON_TEXT_H_
#define APPS_COMMON_TEXT_H_

#include <cstdint>
#include <string>

#include "apps/common/facts.h"
#include "transport/base/histogram.h"

namespace oxmem::apps {

// For people, three to four digits: "870 ns", "7.42 us", "1.35 ms", "2.04 s".
std::string FormatLatency(double ns);

// "12.4 k", "1.86 M": a count or a rate.
std::string FormatCount(double count);

// "1.23 GB/s": bytes a second, powers of 1000, as line rates are given.
std::string FormatThroughput(double bytes_per_second);

// "latency: min 6.2 us, avg 7.4 us, p50 7.1 us, p99 11 us, p99.9 20 us, max 130 us".
std::string LatencyLine(const Histogram& histogram);

// A picture of the distribution: one line of text for each power of two in use, each ending in a
// newline.
std::string LatencyChart(const Histogram& histogram);

// Two columns, the first as wide as its longest word: "size       8G\nprotocol   1.1\n".
std::string FactsText(const Facts& facts);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_TEXT_H_
