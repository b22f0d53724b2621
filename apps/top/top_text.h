#ifndef APPS_TOP_TOP_TEXT_H_
#define APPS_TOP_TOP_TEXT_H_

#include <string>
#include <vector>

#include "apps/common/figures_json.h"
#include "apps/top/top_model.h"

namespace oxmem::apps {

// The narrowest screen on which every column has its place.
inline constexpr int kTopColumns = 80;

// The line over the rows, and one for each row, without an end of line. None is wider than
// `columns`, which counts as kTopColumns if it is less; more room goes to the names and to a column
// for the 99.9th percentile. A name that does not fit loses its beginning.
std::string TopHeading(int columns);
std::string TopLine(const TopRow& row, int columns);

// {"name": …, "indent": …, "mode": …, "in_flight": …, "reads_per_second": …, …, "p50_us": …};
// rates and latencies as far as they are known.
Json TopJson(const TopRow& row);

// A rate in at most five characters: "0", "0.50", "999", "12.3k", "1.20M".
std::string ShortRate(double per_second);
// A latency in at most six: "870ns", "7.42us", "120us", "1.35ms", "2.04s".
std::string ShortLatency(uint64_t ns);

// The text in exactly `width` places: filled up with blanks, or its end behind a tilde, in front of
// which a short first word stays. A place is a UTF-8 character.
std::string FitName(const std::string& text, int width);

}  // namespace oxmem::apps

#endif  // APPS_TOP_TOP_TEXT_H_
