#ifndef OXMEM_LINK_MAC_ADDRESS_H_
#define OXMEM_LINK_MAC_ADDRESS_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "oxmem/link/link.h"

namespace oxmem::link {

struct MacAddress {
  std::array<uint8_t, 6> bytes{};
  friend bool operator==(const MacAddress&, const MacAddress&) = default;
  friend auto operator<=>(const MacAddress&, const MacAddress&) = default;
};

// "04:3f:72:dd:0b:05", in either case, also with '-' between the pairs. A group address (multicast
// or broadcast) and the zero address are refused: no endpoint has one.
absl::StatusOr<MacAddress> ParseMacAddress(std::string_view text);

// "04:3f:72:dd:0b:05".
std::string FormatMacAddress(const MacAddress& mac);

// How a MAC address lies in a link address: the first six bytes, the others zero.
Address AddressOfMac(const MacAddress& mac);
MacAddress MacOfAddress(const Address& address);

}  // namespace oxmem::link

#endif  // OXMEM_LINK_MAC_ADDRESS_H_
