#include "apps/common/cli.h"

#include <cstdio>

#include "absl/strings/str_format.h"

namespace oxmem::apps {

int Fail(const std::string& program, const absl::Status& status) {
  const std::string message = Printable(std::string(status.message()));
  std::fprintf(stderr, "%s: %s\n", program.c_str(), message.c_str());
  return absl::IsInvalidArgument(status) ? kExitWrongUsage : kExitFailed;
}

std::string Printable(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppendFormat(&out, "\\x%02x", byte);
    } else {
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace oxmem::apps
