#ifndef OXMEM_LINK_ADDRESS_WATCH_H_
#define OXMEM_LINK_ADDRESS_WATCH_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "oxmem/link/interface.h"
#include "oxmem/link/mac_address.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem::link {

// Two nodes with one MAC address on a network each get some of the frames for it: requesters read
// from one what they wrote to the other. So a node tells the network which address it serves,
// before it does and every now and then, in broadcast frames of their own EtherType (0x88b5, for
// experiments), which endpoints of other makes do not look at:
//
//   bytes 0-5  "oxmem" and the version, 1
//   byte  6    1 asks whether somebody serves the address, 2 says "I do"
//   byte  7    0
//   bytes 8-9  the EtherType it is served with: with another it is another endpoint
//   bytes 10-17 a random number of the node, by which it knows its own frames
//
// The frame's source is the address in question. Finds nodes of this make only, on this Ethernet
// only. Used by one thread.
class AddressWatch {
 public:
  static constexpr std::size_t kPayloadBytes = 18;

  // Fails without CAP_NET_RAW, or on an interface without broadcasts.
  static absl::StatusOr<AddressWatch> Open(const std::string& interface, const MacAddress& mac,
                                           uint16_t ether_type);

  // Asks, and waits for answers: AlreadyExists, in one line, if somebody has the address. Of two
  // that ask at a time one gets it.
  absl::Status Claim(Duration wait);

  // Readable when somebody speaks of the address.
  int fd() const { return fd_.get(); }
  // Takes what has come, and tells those that ask. True if another node serves the address.
  bool Poll();
  // "I do." For nodes that came to be on one network later.
  void Announce() { Send(kHeld); }

 private:
  enum Kind : uint8_t { kAsks = 1, kHeld = 2 };
  struct Heard {
    Kind kind = kAsks;
    uint64_t instance = 0;
  };

  AddressWatch() = default;
  absl::Status Bind();
  void Send(Kind kind);
  // The next frame of another node; false if there is none.
  bool Receive(Heard* heard);
  bool Decode(std::span<const std::byte> payload, Heard* heard) const;

  UniqueFd fd_;
  InterfaceInfo interface_;
  MacAddress mac_;
  uint16_t ether_type_ = 0;
  uint64_t instance_ = 0;
};

}  // namespace oxmem::link

#endif  // OXMEM_LINK_ADDRESS_WATCH_H_
