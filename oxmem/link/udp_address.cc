#include "oxmem/link/udp_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "transport/base/byte_order.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

// Where the parts lie in an Address: the kind of address, the port, the address, the IPv6 scope.
// An IPv4 address takes the first four bytes of its sixteen.
constexpr std::size_t kKindAt = 0;
constexpr std::size_t kPortAt = 2;
constexpr std::size_t kIpAt = 4;
constexpr std::size_t kScopeAt = 20;
constexpr uint8_t kIpv4 = 4;
constexpr uint8_t kIpv6 = 6;

std::byte* At(Address& address, std::size_t offset) {
  return reinterpret_cast<std::byte*>(address.bytes.data()) + offset;
}
const std::byte* At(const Address& address, std::size_t offset) {
  return reinterpret_cast<const std::byte*>(address.bytes.data()) + offset;
}

Address FromIpv4(const sockaddr_in& in) {
  Address address;
  address.bytes[kKindAt] = kIpv4;
  std::memcpy(At(address, kPortAt), &in.sin_port, sizeof in.sin_port);
  std::memcpy(At(address, kIpAt), &in.sin_addr, sizeof in.sin_addr);
  return address;
}

Address FromIpv6(const sockaddr_in6& in) {
  Address address;
  std::memcpy(At(address, kPortAt), &in.sin6_port, sizeof in.sin6_port);
  if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
    address.bytes[kKindAt] = kIpv4;
    std::memcpy(At(address, kIpAt), &in.sin6_addr.s6_addr[12], sizeof(in_addr));
    return address;
  }
  address.bytes[kKindAt] = kIpv6;
  std::memcpy(At(address, kIpAt), &in.sin6_addr, sizeof in.sin6_addr);
  StoreBigEndian<uint32_t>(At(address, kScopeAt), in.sin6_scope_id);
  return address;
}

absl::Status Malformed(std::string_view text, const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", std::string(text), "\" is not HOST:PORT: ", why));
}

struct HostAndPort {
  std::string host;
  std::string port;
};

absl::StatusOr<HostAndPort> Split(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return Malformed(text, "the port is missing");
  HostAndPort result = {std::string(text.substr(0, colon)), std::string(text.substr(colon + 1))};
  uint32_t port = 0;
  const bool digits = !result.port.empty() &&
                      std::ranges::all_of(result.port, [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || !absl::SimpleAtoi(result.port, &port) || port > 65535) {
    return Malformed(text, "a port is a number from 0 to 65535");
  }
  std::string& host = result.host;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    return Malformed(text, "an IPv6 address stands in brackets, like [fe80::1%eth1]:4000");
  }
  if (host.empty()) return Malformed(text, "the host is missing");
  return result;
}

}  // namespace

absl::StatusOr<Address> ResolveUdpAddress(std::string_view host_and_port) {
  OXMEM_ASSIGN_OR_RETURN(const HostAndPort parts, Split(host_and_port));
  const bool any = parts.host == "*";
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(any ? "::" : parts.host.c_str(), parts.port.c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> list(found, &freeaddrinfo);
  if (error != 0) {
    return absl::NotFoundError(
        absl::StrCat("no address for \"", parts.host, "\": ", gai_strerror(error)));
  }
  sockaddr_storage storage = {};
  std::memcpy(&storage, list->ai_addr, std::min<std::size_t>(list->ai_addrlen, sizeof storage));
  return FromSockaddr(storage);
}

int FamilyOf(const Address& address) {
  return address.bytes[kKindAt] == kIpv6 ? AF_INET6 : AF_INET;
}

bool IsWildcard(const Address& address) {
  return std::all_of(address.bytes.begin() + kIpAt, address.bytes.end(),
                     [](uint8_t byte) { return byte == 0; });
}

std::string FormatUdpAddress(const Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = FamilyOf(address);
  if (inet_ntop(family, At(address, kIpAt), text.data(), text.size()) == nullptr) return "?";
  const auto port = LoadBigEndian<uint16_t>(At(address, kPortAt));
  if (family == AF_INET) return absl::StrCat(text.data(), ":", port);
  const auto scope = LoadBigEndian<uint32_t>(At(address, kScopeAt));
  return absl::StrCat("[", text.data(), scope == 0 ? "" : absl::StrCat("%", scope), "]:", port);
}

socklen_t ToSockaddr(const Address& address, int family, sockaddr_storage& storage) {
  storage = {};
  if (family == AF_INET) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    std::memcpy(&in.sin_port, At(address, kPortAt), sizeof in.sin_port);
    std::memcpy(&in.sin_addr, At(address, kIpAt), sizeof in.sin_addr);
    std::memcpy(&storage, &in, sizeof in);
    return sizeof in;
  }
  sockaddr_in6 in = {};
  in.sin6_family = AF_INET6;
  std::memcpy(&in.sin6_port, At(address, kPortAt), sizeof in.sin6_port);
  if (FamilyOf(address) == AF_INET) {
    std::memset(&in.sin6_addr.s6_addr[10], 0xff, 2);
    std::memcpy(&in.sin6_addr.s6_addr[12], At(address, kIpAt), sizeof(in_addr));
  } else {
    std::memcpy(&in.sin6_addr, At(address, kIpAt), sizeof in.sin6_addr);
    in.sin6_scope_id = LoadBigEndian<uint32_t>(At(address, kScopeAt));
  }
  std::memcpy(&storage, &in, sizeof in);
  return sizeof in;
}

Address FromSockaddr(const sockaddr_storage& storage) {
  if (storage.ss_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, &storage, sizeof in);
    return FromIpv4(in);
  }
  if (storage.ss_family == AF_INET6) {
    sockaddr_in6 in;
    std::memcpy(&in, &storage, sizeof in);
    return FromIpv6(in);
  }
  return Address{};
}

}  // namespace oxmem::link
