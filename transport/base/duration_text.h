#ifndef TRANSPORT_BASE_DURATION_TEXT_H_
#define TRANSPORT_BASE_DURATION_TEXT_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "transport/base/clock.h"

namespace oxmem {

// "5s", "200ms", "50us", "100ns", "2min", "1h", or "0": a whole number and a unit. A missing unit,
// a sign, trailing text and more than 100 years are errors that quote the text.
absl::StatusOr<Duration> ParseDuration(std::string_view text);

// "5s", "1500ms", "0": the shortest exact form that ParseDuration reads back. Not negative.
std::string FormatDuration(Duration duration);

}  // namespace oxmem

#endif  // TRANSPORT_BASE_DURATION_TEXT_H_
