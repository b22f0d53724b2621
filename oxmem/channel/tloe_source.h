#ifndef OXMEM_CHANNEL_TLOE_SOURCE_H_
#define OXMEM_CHANNEL_TLOE_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "oxmem/channel/options.h"
#include "oxmem/channel/tloe_channel.h"
#include "oxmem/link/packet_link.h"
#include "transport/api/source.h"

namespace oxmem::channel {

// What a tloe:// or tloe+udp:// source says.
//
//   tloe://IFACE/MAC?size=8G&base=0x0      an endpoint on Ethernet
//   tloe+udp://HOST:PORT?size=8G           the same frames in UDP
//
// Keys of both: size (needed), base, ro, vc, depth, timeout, connect_timeout, max_message, protocol
// (1.1, 1.0.3), data_order (spec, memory), peer (auto, spec, memorynode, omnixtend-c), mtu.
// Of tloe alone: ethertype, mac (of this end), link (auto, packet, ring). Of tloe+udp alone: hops.
struct TloeSource {
  Options options;
  bool udp = false;
  std::string interface;  // tloe
  std::string mac;        // of the endpoint, tloe
  std::string own_mac;    // tloe; empty: the interface's
  uint16_t ether_type = 0;
  link::PacketReceive receive = link::PacketReceive::kAuto;
  std::string host_and_port;  // tloe+udp
  int hops = 0;               // tloe+udp; see link::UdpLinkOptions
  std::size_t max_frame_bytes = 0;
  std::optional<uint8_t> virtual_channel;  // not given: the first that is free on this host
};

// One line that says what is wrong where, if the source is not as above.
absl::StatusOr<TloeSource> ParseTloeSource(const transport::Source& source);

// Opens the link, connects, and returns the channel when the endpoint has answered.
absl::StatusOr<std::unique_ptr<TloeChannel>> OpenTloe(const transport::Source& source);

}  // namespace oxmem::channel

#endif  // OXMEM_CHANNEL_TLOE_SOURCE_H_
