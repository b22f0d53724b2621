#ifndef TESTS_OXMEM_LINK_LINK_SETUP_H_
#define TESTS_OXMEM_LINK_LINK_SETUP_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "oxmem/link/link.h"

namespace oxmem::link {

// Two links that reach each other, with what the contract suite needs around them.
class LinkSetup {
 public:
  virtual ~LinkSetup() = default;
  virtual Link& near() = 0;
  virtual Link& far() = 0;

  // An address on the same network that nobody has.
  virtual Address nobody() const = 0;

  // Whether the medium under near() can be switched off and on, and doing it.
  virtual bool can_switch() const { return false; }
  virtual void Switch(bool) {}
};

struct LinkKind {
  std::string name;
  absl::StatusOr<std::unique_ptr<LinkSetup>> (*make)();
  // Why this kind cannot be tested here; empty if it can.
  std::string (*why_not)();
};

absl::StatusOr<std::unique_ptr<LinkSetup>> MakeMemorySetup();
absl::StatusOr<std::unique_ptr<LinkSetup>> MakePacketSetup();
absl::StatusOr<std::unique_ptr<LinkSetup>> MakePacketRingSetup();
absl::StatusOr<std::unique_ptr<LinkSetup>> MakePacketRingLongSetup();
// Over a veth pair.
absl::StatusOr<std::unique_ptr<LinkSetup>> MakeUdpSetup();
// Over the loopback interface.
absl::StatusOr<std::unique_ptr<LinkSetup>> MakeUdpLoopbackSetup();
// Why there is no IPv6 on the loopback interface; empty if there is.
std::string WhyNoIpv6();

}  // namespace oxmem::link

#endif  // TESTS_OXMEM_LINK_LINK_SETUP_H_
