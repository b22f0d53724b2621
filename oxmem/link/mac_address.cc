#include "oxmem/link/mac_address.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_format.h"

namespace oxmem::link {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

absl::Status Malformed(std::string_view text, const char* why) {
  return absl::InvalidArgumentError(
      absl::StrFormat("\"%s\" is not a MAC address: %s", std::string(text), why));
}

}  // namespace

absl::StatusOr<MacAddress> ParseMacAddress(std::string_view text) {
  constexpr const char* kForm = "write six pairs of hexadecimal digits, like 04:3f:72:dd:0b:05";
  MacAddress mac;
  if (text.size() != mac.bytes.size() * 3 - 1) return Malformed(text, kForm);
  const char separator = text[2];
  if (separator != ':' && separator != '-') return Malformed(text, kForm);
  for (std::size_t i = 0; i < mac.bytes.size(); ++i) {
    const int high = HexDigit(text[i * 3]);
    const int low = HexDigit(text[i * 3 + 1]);
    if (high < 0 || low < 0) return Malformed(text, kForm);
    if (i > 0 && text[i * 3 - 1] != separator) return Malformed(text, kForm);
    mac.bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  if (mac == MacAddress()) return Malformed(text, "nobody has the address that is all zero");
  if ((mac.bytes[0] & 1) != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("\"%s\" is a group (multicast or broadcast) address; an endpoint has one "
                        "whose first byte is even",
                        std::string(text)));
  }
  return mac;
}

std::string FormatMacAddress(const MacAddress& mac) {
  const auto& b = mac.bytes;
  return absl::StrFormat("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
}

Address AddressOfMac(const MacAddress& mac) {
  Address address;
  std::copy(mac.bytes.begin(), mac.bytes.end(), address.bytes.begin());
  return address;
}

MacAddress MacOfAddress(const Address& address) {
  MacAddress mac;
  std::copy_n(address.bytes.begin(), mac.bytes.size(), mac.bytes.begin());
  return mac;
}

}  // namespace oxmem::link
