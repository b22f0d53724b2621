#include "oxmem/link/interface.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

// How many single letters must be inserted, removed or changed to make one name the other.
std::size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, changed});
    }
  }
  return row[b.size()];
}

absl::Status UnknownInterface(const std::string& name) {
  const std::vector<std::string> names = InterfaceNames();
  const auto nearest = std::min_element(names.begin(), names.end(), [&](const auto& a, auto& b) {
    return EditDistance(a, name) < EditDistance(b, name);
  });
  std::string hint;
  if (nearest != names.end() && EditDistance(*nearest, name) <= 2) {
    hint = absl::StrCat("did you mean ", *nearest, "? ");
  }
  return absl::NotFoundError(absl::StrCat("there is no network interface \"", name, "\" (", hint,
                                          "there are: ", absl::StrJoin(names, ", "), ")"));
}

}  // namespace

std::vector<std::string> InterfaceNames() {
  std::vector<std::string> names;
  if (struct if_nameindex* all = if_nameindex(); all != nullptr) {
    for (const struct if_nameindex* one = all; one->if_index != 0; ++one) {
      names.emplace_back(one->if_name);
    }
    if_freenameindex(all);
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<InterfaceInfo> FindInterface(int socket_fd, const std::string& name) {
  // The kernel cuts names at a colon (old alias names), and would find another interface.
  if (name.empty() || name.size() >= IFNAMSIZ || name.find(':') != std::string::npos) {
    return UnknownInterface(name);
  }
  InterfaceInfo info;
  info.name = name;
  ifreq request = {};
  std::memcpy(request.ifr_name, name.data(), name.size());
  const auto ask = [&](unsigned long what) { return ioctl(socket_fd, what, &request) == 0; };
  if (!ask(SIOCGIFINDEX)) {
    return errno == ENODEV ? UnknownInterface(name) : ErrnoStatus(errno, name);
  }
  info.index = request.ifr_ifindex;
  // Between two questions the interface may go.
  if (!ask(SIOCGIFHWADDR)) return ErrnoStatus(errno, name);
  info.ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER ||
                  request.ifr_hwaddr.sa_family == ARPHRD_LOOPBACK;
  std::memcpy(info.mac.bytes.data(), request.ifr_hwaddr.sa_data, info.mac.bytes.size());
  if (!ask(SIOCGIFMTU)) return ErrnoStatus(errno, name);
  info.mtu = static_cast<std::size_t>(std::max(request.ifr_mtu, 0));
  if (!ask(SIOCGIFFLAGS)) return ErrnoStatus(errno, name);
  info.up = (request.ifr_flags & IFF_UP) != 0;
  info.running = (request.ifr_flags & IFF_RUNNING) != 0;
  // The flag may lag a second behind; the driver knows.
  ethtool_value carrier = {ETHTOOL_GLINK, 0};
  request.ifr_data = reinterpret_cast<char*>(&carrier);
  if (info.up && ask(SIOCETHTOOL)) info.running = carrier.data != 0;
  return info;
}

absl::Status CheckUsable(const InterfaceInfo& interface) {
  if (!interface.up) {
    return absl::UnavailableError(absl::StrCat(
        "interface ", interface.name, " is down (try: ip link set ", interface.name, " up)"));
  }
  if (!interface.running) {
    return absl::UnavailableError(
        absl::StrCat("interface ", interface.name,
                     " has no carrier (is the cable plugged in and the other end up?)"));
  }
  return absl::OkStatus();
}

}  // namespace oxmem::link
