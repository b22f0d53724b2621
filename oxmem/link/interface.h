#ifndef OXMEM_LINK_INTERFACE_H_
#define OXMEM_LINK_INTERFACE_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "oxmem/link/mac_address.h"

namespace oxmem::link {

// A network interface as the kernel sees it now.
struct InterfaceInfo {
  std::string name;
  int index = 0;
  MacAddress mac;
  std::size_t mtu = 0;  // bytes behind the Ethernet header
  bool ethernet = false;
  bool up = false;       // switched on
  bool running = false;  // and has a carrier
};

// Looks the interface up in the network namespace of `socket_fd`, any socket. An unknown name is
// kNotFound and lists the nearest and the existing ones.
absl::StatusOr<InterfaceInfo> FindInterface(int socket_fd, const std::string& name);

// OK, or that the interface is down or has no carrier and how to switch it on.
absl::Status CheckUsable(const InterfaceInfo& interface);

// The names of the thread's network namespace, sorted.
std::vector<std::string> InterfaceNames();

}  // namespace oxmem::link

#endif  // OXMEM_LINK_INTERFACE_H_
