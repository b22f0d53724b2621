#include "apps/common/figures_text.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "apps/common/cli.h"
#include "apps/common/text.h"
#include "transport/base/size.h"

namespace oxmem::apps {
namespace {

double NumberOf(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number() ? found->get<double>() : 0.0;
}

// A count that JSON may give as anything that is a number.
uint64_t BytesOf(const Json& json, const char* key) {
  constexpr double kMost = 9e18;
  return static_cast<uint64_t>(std::clamp(NumberOf(json, key), 0.0, kMost));
}

std::string LatencyText(const Json& latency) {
  std::string text;
  for (const char* key : {"min", "mean", "p50", "p99", "p999", "max"}) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", key, " ",
                    FormatLatency(NumberOf(latency, absl::StrCat(key, "_us").c_str()) * 1000.0));
  }
  return text;
}

std::string PartText(const Json& part) {
  Facts rows;
  for (const auto& [key, value] : part.items()) {
    if (key == "facts" && value.is_object()) {
      for (const auto& [fact, unused] : value.items()) {
        rows.emplace_back(Printable(fact), MemberText(value, fact.c_str()));
      }
    } else if (key == "counters" && value.is_object()) {
      // What never happened is left out; --json has it.
      for (const auto& [counter, count] : value.items()) {
        if (count != 0) rows.emplace_back(Printable(counter), MemberText(value, counter.c_str()));
      }
    } else if (value.is_object() && NumberOf(value, "count") > 0) {
      rows.emplace_back(Printable(key), LatencyText(value));
    }
  }
  std::string text =
      absl::StrFormat("  %s %s\n", MemberText(part, "kind"), MemberText(part, "name"));
  for (const absl::string_view row : absl::StrSplit(FactsText(rows), '\n', absl::SkipEmpty())) {
    absl::StrAppend(&text, "    ", row, "\n");
  }
  return text;
}

}  // namespace

std::string MemberText(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return "";
  return Printable(found->is_string() ? found->get<std::string>() : JsonText(*found));
}

bool IsCalled(const Json& process, const std::string& which) {
  const std::string text = Utf8Text(which);
  if (MemberText(process, "pid") == text || MemberText(process, "name") == text) return true;
  const auto name = process.find("name");
  return name != process.end() && *name == text;
}

std::string FiguresText(const Json& process) {
  std::string text = absl::StrFormat(
      "%s \"%s\", process %s, up %.0f s, %s resident\n", MemberText(process, "command"),
      MemberText(process, "name"), MemberText(process, "pid"), NumberOf(process, "uptime_seconds"),
      FormatSizeForPeople(BytesOf(process, "resident_bytes")));
  if (const auto parts = process.find("parts"); parts != process.end() && parts->is_array()) {
    for (const Json& part : *parts) text += PartText(part);
  }
  return text;
}

}  // namespace oxmem::apps
