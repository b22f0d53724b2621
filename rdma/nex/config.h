#ifndef RDMA_NEX_CONFIG_H_
#define RDMA_NEX_CONFIG_H_

#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace oxmem::nex {

using Gid = std::array<std::uint8_t, 16>;

// An address of this host that nex0 listens on, as the GID it appears under.
struct LocalAddress {
  Gid gid{};
  std::uint32_t interface_index = 0;
};

// What the environment says, checked.
struct Config {
  std::vector<LocalAddress> addresses;  // the first one is the primary
  std::uint16_t base_port = 12345;
  std::string device = "nex0";
  int debug = 0;
  std::string secret;  // NEX_SECRET; empty: none
  bool direct = true;  // NEX_DIRECT: copy between processes of a host where possible
};

inline constexpr std::uint32_t kSlots = 1024;             // processes on a host
inline constexpr std::uint32_t kSlotShift = 14;           // QPN = slot << 14 | index
inline constexpr std::uint32_t kMulticastQpn = 0xffffff;  // of datagrams to a group
inline constexpr std::uint32_t kIndices = 1 << 14;        // queue pairs of a process

// Reads NEX_ADDR, NEX_PORT, NEX_DEVICE, NEX_DEBUG, NEX_DIRECT, NEX_SECRET. A wrong value gives no
// configuration and one line in *error that says what to change, with errno: EINVAL, or why the
// system could not be asked.
std::optional<Config> ReadConfig(std::string* error);

// The IPv4-mapped GID of an IPv4 address, or the IPv6 address itself.
Gid GidOf(const sockaddr_in6& address);
sockaddr_in6 AddressOf(const Gid& gid, std::uint16_t port);  // IPv4 stays mapped
bool IsAddressOfThisHost(const Gid& gid);
bool ParseAddress(const std::string& text, Gid* gid);
std::string GidText(const Gid& gid);
// LIDs are for programs that exchange no GID: the low 16 bits of the primary address.
std::uint16_t LidOf(const Gid& gid);
Gid GidOfLid(const Gid& primary, std::uint16_t lid);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_CONFIG_H_
