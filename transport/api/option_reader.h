#ifndef TRANSPORT_API_OPTION_READER_H_
#define TRANSPORT_API_OPTION_READER_H_

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "transport/api/source.h"
#include "transport/base/clock.h"

namespace oxmem::transport {

// Reads the parameters of a source, typed and checked. Every getter names a key that the source may
// have; Finish then refuses the keys that no getter named. The first wrong value is remembered and
// Finish reports it, so that a transport reads all its options in a row:
//
//   OptionReader options(source);
//   const uint64_t size = options.RequiredSize("size", 1);
//   const Duration timeout = options.Time("timeout", Duration::Seconds(5));
//   OXMEM_RETURN_IF_ERROR(options.Finish());
//
// A getter whose value is absent or wrong returns the fallback. The source must outlive the reader.
class OptionReader {
 public:
  static constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

  explicit OptionReader(const Source& source) : source_(source) {}

  // "64K"; bounds in bytes, inclusive.
  uint64_t Size(std::string_view key, uint64_t fallback, uint64_t least = 0,
                uint64_t most = kNoLimit);
  uint64_t RequiredSize(std::string_view key, uint64_t least = 0, uint64_t most = kNoLimit);

  // Decimal, or hexadecimal after 0x; bounds inclusive.
  uint64_t Number(std::string_view key, uint64_t fallback, uint64_t least = 0,
                  uint64_t most = kNoLimit);

  // yes, true, on, 1 and no, false, off, 0.
  bool Bool(std::string_view key, bool fallback);

  // "5s", "200ms".
  Duration Time(std::string_view key, Duration fallback, Duration least = Duration(),
                Duration most = Duration::Seconds(1 << 30));

  // A share of one: "0.02" or "2%".
  double Fraction(std::string_view key, double fallback);

  // Any text that is not empty.
  std::string Text(std::string_view key, std::string_view fallback);
  std::string RequiredText(std::string_view key);

  // One of the listed words.
  template <typename E>
  E Enum(std::string_view key, E fallback,
         std::initializer_list<std::pair<std::string_view, E>> values) {
    const std::string* text = Look(key);
    if (text == nullptr) return fallback;
    std::string words;
    for (const auto& [word, value] : values) {
      if (*text == word) return value;
      if (!words.empty()) words += ", ";
      words += word;
    }
    Fail(key, "\"" + *text + "\" is not one of " + words);
    return fallback;
  }

  // A mistake that the transport itself found with the value of `key`: "must be a multiple of …".
  void Fail(std::string_view key, const std::string& why);

  // The first error, one line that begins with the source; or OK.
  absl::Status Finish() const;

 private:
  // Remembers the key as known and returns its value.
  const std::string* Look(std::string_view key);
  void FailMissing(std::string_view key, const char* example);
  bool InBounds(std::string_view key, uint64_t value, uint64_t least, uint64_t most,
                std::string (*format)(uint64_t));

  const Source& source_;
  std::vector<std::string> known_;
  absl::Status status_;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_OPTION_READER_H_
