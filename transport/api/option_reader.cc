#include "transport/api/option_reader.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transport/base/duration_text.h"
#include "transport/base/size.h"

namespace oxmem::transport {
namespace {

std::string FormatNumber(uint64_t number) { return absl::StrCat(number); }

std::string Subject(const Source& source) {
  return absl::StrCat("source \"", source.FormatWithoutParameters(), "\"");
}

std::string Message(const absl::Status& status) { return std::string(status.message()); }

}  // namespace

const std::string* OptionReader::Look(std::string_view key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  return source_.Find(key);
}

void OptionReader::Fail(std::string_view key, const std::string& why) {
  if (!status_.ok()) return;
  status_ =
      absl::InvalidArgumentError(absl::StrCat(Subject(source_), ": ", std::string(key), ": ", why));
}

void OptionReader::FailMissing(std::string_view key, const char* example) {
  if (!status_.ok()) return;
  status_ = absl::InvalidArgumentError(
      absl::StrCat(Subject(source_), ": option \"", std::string(key),
                   "\" is missing (write for example ", std::string(key), "=", example, ")"));
}

bool OptionReader::InBounds(std::string_view key, uint64_t value, uint64_t least, uint64_t most,
                            std::string (*format)(uint64_t)) {
  if (value >= least && value <= most) return true;
  if (most == kNoLimit) {
    Fail(key, absl::StrCat(format(value), " is too little (the least is ", format(least), ")"));
  } else {
    Fail(key, absl::StrCat(format(value), " is not within ", format(least), " to ", format(most)));
  }
  return false;
}

uint64_t OptionReader::Size(std::string_view key, uint64_t fallback, uint64_t least,
                            uint64_t most) {
  const std::string* text = Look(key);
  if (text == nullptr) return fallback;
  const absl::StatusOr<uint64_t> size = ParseSize(*text);
  if (!size.ok()) {
    Fail(key, Message(size.status()));
    return fallback;
  }
  return InBounds(key, *size, least, most, FormatSize) ? *size : fallback;
}

uint64_t OptionReader::RequiredSize(std::string_view key, uint64_t least, uint64_t most) {
  if (Look(key) == nullptr) FailMissing(key, "1G");
  return Size(key, least, least, most);
}

uint64_t OptionReader::Number(std::string_view key, uint64_t fallback, uint64_t least,
                              uint64_t most) {
  const std::string* text = Look(key);
  if (text == nullptr) return fallback;
  const absl::StatusOr<uint64_t> number = ParseNumber(*text);
  if (!number.ok()) {
    Fail(key, Message(number.status()));
    return fallback;
  }
  return InBounds(key, *number, least, most, FormatNumber) ? *number : fallback;
}

bool OptionReader::Bool(std::string_view key, bool fallback) {
  const std::string* text = Look(key);
  if (text == nullptr) return fallback;
  for (const char* word : {"yes", "true", "on", "1"}) {
    if (*text == word) return true;
  }
  for (const char* word : {"no", "false", "off", "0"}) {
    if (*text == word) return false;
  }
  Fail(key, absl::StrCat("\"", *text, "\" is neither yes nor no"));
  return fallback;
}

Duration OptionReader::Time(std::string_view key, Duration fallback, Duration least,
                            Duration most) {
  const std::string* text = Look(key);
  if (text == nullptr) return fallback;
  const absl::StatusOr<Duration> time = ParseDuration(*text);
  if (!time.ok()) {
    Fail(key, Message(time.status()));
    return fallback;
  }
  if (*time < least || *time > most) {
    Fail(key, absl::StrCat(*text, " is not within ", FormatDuration(least), " to ",
                           FormatDuration(most)));
    return fallback;
  }
  return *time;
}

double OptionReader::Fraction(std::string_view key, double fallback) {
  const std::string* text = Look(key);
  if (text == nullptr) return fallback;
  std::string_view digits = *text;
  const bool percent = digits.ends_with('%');
  if (percent) digits.remove_suffix(1);
  double value = 0;
  // Plain decimals only: from_chars alone would also take "inf" and "1e-3".
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value,
                                            std::chars_format::fixed);
  if (percent) value /= 100;
  if (error != std::errc() || end != digits.data() + digits.size() || !(value >= 0 && value <= 1)) {
    Fail(key, absl::StrCat("\"", *text, "\" is not a share between 0 and 1, or 0% and 100%"));
    return fallback;
  }
  return value;
}

std::string OptionReader::Text(std::string_view key, std::string_view fallback) {
  const std::string* text = Look(key);
  if (text == nullptr) return std::string(fallback);
  if (text->empty()) Fail(key, "is empty");
  return *text;
}

std::string OptionReader::RequiredText(std::string_view key) {
  if (Look(key) == nullptr) FailMissing(key, "NAME");
  return Text(key, "");
}

absl::Status OptionReader::Finish() const {
  for (const Source::Parameter& parameter : source_.parameters) {
    if (std::find(known_.begin(), known_.end(), parameter.key) != known_.end()) continue;
    const std::string known =
        known_.empty() ? "it takes none" : absl::StrCat("known: ", absl::StrJoin(known_, ", "));
    return absl::InvalidArgumentError(
        absl::StrCat(Subject(source_), ": unknown option \"", parameter.key, "\" (", known, ")"));
  }
  return status_;
}

}  // namespace oxmem::transport
