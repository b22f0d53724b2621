#include "apps/oxmem/number_option.h"

#include <charconv>
#include <string>

#include "absl/strings/str_cat.h"
#include "transport/base/size.h"

namespace oxmem::apps {

CLI::Validator WholeNumber(uint64_t least, uint64_t most) {
  return CLI::Validator(
      [least, most](std::string& text) -> std::string {
        const absl::StatusOr<uint64_t> number = ParseNumber(text);
        if (!number.ok() || *number < least || *number > most) {
          return absl::StrCat("\"", text, "\" is not a whole number from ", least, " to ", most);
        }
        text = absl::StrCat(*number);
        return {};
      },
      "");
}

CLI::Validator DecimalNumber(double least, double most) {
  return CLI::Validator(
      [least, most](std::string& text) -> std::string {
        double number = 0;
        const char* const end = text.data() + text.size();
        const auto parsed = std::from_chars(text.data(), end, number, std::chars_format::fixed);
        // Written so that what is no number is not within the bounds.
        const bool within = number >= least && number <= most;
        if (parsed.ec != std::errc() || parsed.ptr != end || !within) {
          return absl::StrCat("\"", text, "\" is not a number from ", least, " to ", most);
        }
        return {};
      },
      "");
}

CLI::Validator NotEmpty() {
  return CLI::Validator(
      [](std::string& text) -> std::string { return text.empty() ? "\"\" says nothing" : ""; }, "");
}

}  // namespace oxmem::apps
