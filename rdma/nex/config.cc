#include "rdma/nex/config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace oxmem::nex {
namespace {

bool IsMapped(const Gid& gid) {
  static constexpr std::uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(gid.data(), kPrefix, sizeof kPrefix) == 0;
}

// 0 with errno: EADDRNOTAVAIL if the host has no such address, or why the system does not say.
std::uint32_t InterfaceOf(const Gid& gid) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return 0;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, &freeifaddrs);
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr) continue;
    Gid have{};
    if (i->ifa_addr->sa_family == AF_INET) {
      have[10] = have[11] = 0xff;
      std::memcpy(&have[12], &reinterpret_cast<sockaddr_in*>(i->ifa_addr)->sin_addr, 4);
    } else if (i->ifa_addr->sa_family == AF_INET6) {
      std::memcpy(have.data(), &reinterpret_cast<sockaddr_in6*>(i->ifa_addr)->sin6_addr, 16);
    } else {
      continue;
    }
    if (have == gid) return if_nametoindex(i->ifa_name);
  }
  // 127.0.0.0/8 as a whole belongs to the loopback interface.
  if (IsMapped(gid) && gid[12] == 127) return if_nametoindex("lo");
  errno = EADDRNOTAVAIL;
  return 0;
}

const char* Value(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

// After InterfaceOf found none.
std::string WhyNot(const std::string& address) {
  if (errno == EADDRNOTAVAIL) {
    errno = EINVAL;
    return address + " is not an address of this host (see `ip address`)";
  }
  const int why = errno;
  std::string text = "the system does not say whether " + address +
                     " is an address of this host: " + std::strerror(why);
  if (why == EMFILE) text += " (see `ulimit -n`)";
  errno = why;
  return text;
}

bool ReadAddresses(Config* config, std::string* error) {
  const char* value = Value("NEX_ADDR");
  std::string rest = value != nullptr ? value : "127.0.0.1";
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    const std::string one = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    LocalAddress address;
    if (!ParseAddress(one, &address.gid)) {
      *error = "NEX_ADDR: '" + one + "' is not an IPv4 or IPv6 address";
      errno = EINVAL;
      return false;
    }
    address.interface_index = InterfaceOf(address.gid);
    if (address.interface_index == 0) {
      *error = "NEX_ADDR: " + WhyNot(one);
      return false;
    }
    const bool twice =
        std::any_of(config->addresses.begin(), config->addresses.end(),
                    [&](const LocalAddress& other) { return other.gid == address.gid; });
    if (twice) {
      *error = "NEX_ADDR: " + one + " is given twice";
      errno = EINVAL;
      return false;
    }
    config->addresses.push_back(address);
  }
  return true;
}

bool ReadNumber(const char* name, long low, long high, long* out, std::string* error) {
  const char* value = Value(name);
  if (value == nullptr) return true;
  const char* const end = value + std::strlen(value);
  const auto [rest, result] = std::from_chars(value, end, *out);
  if (result == std::errc() && rest == end && *out >= low && *out <= high) return true;
  *error = std::string(name) + ": '" + value + "' is not a number from " + std::to_string(low) +
           " to " + std::to_string(high);
  return false;
}

}  // namespace

bool IsAddressOfThisHost(const Gid& gid) { return InterfaceOf(gid) != 0; }

bool ParseAddress(const std::string& text, Gid* gid) {
  *gid = {};
  if (inet_pton(AF_INET, text.c_str(), gid->data() + 12) == 1) {
    (*gid)[10] = (*gid)[11] = 0xff;
    return true;
  }
  return inet_pton(AF_INET6, text.c_str(), gid->data()) == 1;
}

Gid GidOf(const sockaddr_in6& address) {
  Gid gid{};
  if (address.sin6_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &address, sizeof v4);
    gid[10] = gid[11] = 0xff;
    std::memcpy(&gid[12], &v4.sin_addr, 4);
  } else {
    std::memcpy(gid.data(), &address.sin6_addr, 16);
  }
  return gid;
}

sockaddr_in6 AddressOf(const Gid& gid, std::uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  std::memcpy(&address.sin6_addr, gid.data(), 16);
  if (!IsMapped(gid) && gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80) {
    address.sin6_scope_id = InterfaceOf(gid);
  }
  return address;
}

std::string GidText(const Gid& gid) {
  char text[INET6_ADDRSTRLEN] = "";
  if (IsMapped(gid)) {
    inet_ntop(AF_INET, gid.data() + 12, text, sizeof text);
  } else {
    inet_ntop(AF_INET6, gid.data(), text, sizeof text);
  }
  return text;
}

std::uint16_t LidOf(const Gid& gid) { return static_cast<std::uint16_t>(gid[14] << 8 | gid[15]); }

Gid GidOfLid(const Gid& primary, std::uint16_t lid) {
  Gid gid = primary;
  gid[14] = static_cast<std::uint8_t>(lid >> 8);
  gid[15] = static_cast<std::uint8_t>(lid);
  return gid;
}

std::optional<Config> ReadConfig(std::string* error) {
  errno = EINVAL;
  Config config;
  long debug = 0;
  long port = config.base_port;
  if (!ReadNumber("NEX_DEBUG", 0, 2, &debug, error)) return std::nullopt;
  long direct = 1;
  if (!ReadNumber("NEX_DIRECT", 0, 1, &direct, error)) return std::nullopt;
  config.direct = direct != 0;
  if (!ReadNumber("NEX_PORT", 1, 65535 - static_cast<long>(kSlots), &port, error)) {
    return std::nullopt;
  }
  config.debug = static_cast<int>(debug);
  config.base_port = static_cast<std::uint16_t>(port);
  if (const char* device = Value("NEX_DEVICE"); device != nullptr) {
    config.device = device;
    bool good = config.device.size() < 32;
    for (const char c : config.device) {
      good = good && (std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-');
    }
    if (!good) {
      *error = "NEX_DEVICE: '" + config.device +
               "' is not a device name (letters, digits, - and _, at most 31)";
      return std::nullopt;
    }
  }
  if (const char* secret = Value("NEX_SECRET"); secret != nullptr) config.secret = secret;
  if (!ReadAddresses(&config, error)) return std::nullopt;
  return config;
}

}  // namespace oxmem::nex
