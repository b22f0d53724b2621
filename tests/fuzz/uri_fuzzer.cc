// Any text is a source or an error of one line; a source's canonical text gives the same source.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "transport/api/option_reader.h"
#include "transport/api/source.h"
#include "transport/base/check.h"

namespace {

using oxmem::transport::OptionReader;
using oxmem::transport::ParseSource;
using oxmem::transport::Source;

bool IsOneLine(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) return false;
  }
  return true;
}

void CheckMessage(const absl::Status& status) {
  const std::string message(status.message());
  OXMEM_CHECK(!message.empty());
  OXMEM_CHECK(IsOneLine(message));
}

void ReadOptions(const Source& source) {
  OptionReader options(source);
  options.Size("size", 0, 1, 1 << 20);
  options.Number("number", 0, 0, 100);
  options.Bool("bool", false);
  options.Time("time", oxmem::Duration());
  const double share = options.Fraction("share", 0);
  OXMEM_CHECK(share >= 0 && share <= 1);
  options.Text("text", "x");
  options.Enum("enum", 0, {{"a", 0}, {"b", 1}});
  if (const absl::Status status = options.Finish(); !status.ok()) CheckMessage(status);
  for (const Source& inner : source.nested) ReadOptions(inner);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto source = ParseSource(text);
  if (!source.ok()) {
    CheckMessage(source.status());
    return 0;
  }
  const std::string canonical = source->Format();
  OXMEM_CHECK(IsOneLine(canonical));
  // Encoding makes a text up to three times as long, which may then pass the bound.
  if (canonical.size() <= oxmem::transport::kMaxSourceBytes) {
    const auto again = ParseSource(canonical);
    OXMEM_CHECK(again.ok());
    OXMEM_CHECK(*again == *source);
    OXMEM_CHECK(again->Format() == canonical);
  }
  ReadOptions(*source);
  if (const auto host = oxmem::transport::ParseHostPort(source->authority); host.ok()) {
    OXMEM_CHECK(host->port != 0 && !host->host.empty());
  } else {
    CheckMessage(host.status());
  }
  return 0;
}
