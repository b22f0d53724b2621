#include "oxmem/channel/tloe_source.h"

#include <bit>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "oxmem/link/host_claim.h"
#include "oxmem/link/mac_address.h"
#include "oxmem/link/packet_link.h"
#include "oxmem/link/udp_address.h"
#include "oxmem/link/udp_link.h"
#include "transport/api/option_reader.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::channel {
namespace {

using transport::OptionReader;
using transport::Source;

constexpr uint8_t kVirtualChannels = 8;

void ReadOptions(OptionReader& reader, TloeSource* parsed) {
  Options& options = parsed->options;
  options.size_bytes = reader.RequiredSize("size", 1);
  options.base_address = reader.Size("base", 0);
  options.read_only = reader.Bool("ro", false);
  options.depth = static_cast<uint32_t>(reader.Number("depth", options.depth, 1, 65536));
  options.request_timeout =
      reader.Time("timeout", options.request_timeout, Duration::Milliseconds(1));
  options.connect_timeout =
      reader.Time("connect_timeout", options.connect_timeout, Duration::Milliseconds(1));
  const uint64_t message = reader.Size("max_message", 0, 8, 1 << 15);
  if (message != 0 && !std::has_single_bit(message)) {
    reader.Fail("max_message", "must be a power of two");
  }
  options.largest_message_size =
      message == 0 ? uint8_t{0} : static_cast<uint8_t>(std::countr_zero(message));
  options.engine.protocol =
      reader.Enum<tloe::Protocol>("protocol", tloe::Protocol::k11,
                                  {{"1.1", tloe::Protocol::k11}, {"1.0.3", tloe::Protocol::k103}});
  using Order = std::optional<tilelink::DataOrder>;
  options.engine.data_order = reader.Enum<Order>("data_order", std::nullopt,
                                                 {{"auto", std::nullopt},
                                                  {"spec", tilelink::DataOrder::kSpec},
                                                  {"memory", tilelink::DataOrder::kMemory}});
  options.engine.peer =
      reader.Enum<tloe::PeerProfile>("peer", tloe::PeerProfile::kAuto,
                                     {{"auto", tloe::PeerProfile::kAuto},
                                      {"spec", tloe::PeerProfile::kSpec},
                                      {"memorynode", tloe::PeerProfile::kMemoryNode},
                                      {"omnixtend-c", tloe::PeerProfile::kOmnixtendC}});
  constexpr uint64_t kNotGiven = UINT64_MAX;
  const uint64_t vc = reader.Number("vc", kNotGiven, 0, kVirtualChannels - 1);
  if (vc != kNotGiven) parsed->virtual_channel = static_cast<uint8_t>(vc);
  parsed->max_frame_bytes = reader.Number("mtu", 0, 0, 65535);
}

absl::Status CheckRange(const Source& source, const Options& options) {
  if (options.base_address % 8 != 0) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: base 0x%x is not a multiple of 8",
                                                      source.Format(), options.base_address));
  }
  if (!CheckedAdd(options.base_address, options.size_bytes - 1)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: base 0x%x and size %s reach past 2^64",
                                                      source.Format(), options.base_address,
                                                      FormatSize(options.size_bytes)));
  }
  return absl::OkStatus();
}

// A link and, on Ethernet, the claim to its virtual channel on this host.
struct Opened {
  std::unique_ptr<link::Link> link;
  link::Address peer;
  UniqueFd claim;
};

absl::StatusOr<Opened> OpenUdp(const TloeSource& parsed) {
  link::UdpLinkOptions options;
  OXMEM_ASSIGN_OR_RETURN(const link::Address peer, link::ResolveUdpAddress(parsed.host_and_port));
  options.peer = peer;
  options.max_frame_bytes = parsed.max_frame_bytes;
  options.hops = parsed.hops;
  OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<link::Link> opened, link::OpenUdpLink(options));
  return Opened{std::move(opened), peer, UniqueFd()};
}

// Two requesters of one host with one address would look to the endpoint like one that restarts
// without end; so each has a virtual channel of its own.
absl::StatusOr<UniqueFd> ClaimVirtualChannel(const TloeSource& parsed, uint8_t* chosen) {
  const auto claim = [&parsed](uint8_t vc) {
    return link::ClaimOnHost(
        absl::StrCat("tloe ", parsed.interface, " ", parsed.own_mac, " ", parsed.mac, " ", vc));
  };
  if (parsed.virtual_channel) {
    *chosen = *parsed.virtual_channel;
    absl::StatusOr<UniqueFd> claimed = claim(*chosen);
    if (claimed.ok() || !absl::IsAlreadyExists(claimed.status())) return claimed;
    return absl::Status(
        claimed.status().code(),
        absl::StrCat("tloe: virtual channel ", *chosen, " to ", parsed.mac, " on ",
                     parsed.interface, " is in use by ", claimed.status().message(),
                     " (leave vc= out and a free one is taken)"));
  }
  absl::Status last;
  for (uint8_t vc = 0; vc < kVirtualChannels; ++vc) {
    absl::StatusOr<UniqueFd> claimed = claim(vc);
    if (claimed.ok()) {
      *chosen = vc;
      return claimed;
    }
    last = claimed.status();
    if (!absl::IsAlreadyExists(last)) return last;
  }
  return absl::Status(
      last.code(),
      absl::StrCat("tloe: all ", kVirtualChannels, " virtual channels to ", parsed.mac, " on ",
                   parsed.interface, " are in use, the last by ", last.message(),
                   " (two addresses have no more: use fewer channels at a time, or another mac=)"));
}

absl::StatusOr<Opened> OpenEthernet(const TloeSource& parsed, uint8_t* virtual_channel) {
  link::PacketLinkOptions options;
  options.interface = parsed.interface;
  options.ether_type = parsed.ether_type;
  options.receive = parsed.receive;
  options.max_frame_bytes = parsed.max_frame_bytes;
  OXMEM_ASSIGN_OR_RETURN(options.peer, link::ParseMacAddress(parsed.mac));
  if (!parsed.own_mac.empty()) {
    OXMEM_ASSIGN_OR_RETURN(options.mac, link::ParseMacAddress(parsed.own_mac));
  }
  OXMEM_ASSIGN_OR_RETURN(UniqueFd claim, ClaimVirtualChannel(parsed, virtual_channel));
  options.virtual_channel = *virtual_channel;
  OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<link::Link> opened, link::OpenPacketLink(options));
  return Opened{std::move(opened), link::AddressOfMac(*options.peer), std::move(claim)};
}

}  // namespace

absl::StatusOr<TloeSource> ParseTloeSource(const Source& source) {
  TloeSource parsed;
  parsed.udp = source.scheme == "tloe+udp";
  OptionReader reader(source);
  ReadOptions(reader, &parsed);
  if (!parsed.udp) {
    parsed.ether_type =
        static_cast<uint16_t>(reader.Number("ethertype", link::kDefaultEtherType, 0, 0xffff));
    parsed.own_mac = reader.Text("mac", "");
    parsed.receive = reader.Enum<link::PacketReceive>("link", link::PacketReceive::kAuto,
                                                      {{"auto", link::PacketReceive::kAuto},
                                                       {"packet", link::PacketReceive::kBatch},
                                                       {"ring", link::PacketReceive::kRing}});
  } else {
    parsed.hops = static_cast<int>(reader.Number("hops", 0, 0, 255));
  }
  OXMEM_RETURN_IF_ERROR(reader.Finish());
  OXMEM_RETURN_IF_ERROR(CheckRange(source, parsed.options));
  if (parsed.udp) {
    parsed.host_and_port = source.authority;
    return parsed;
  }
  parsed.interface = source.authority;
  parsed.mac = std::string(source.path_name());
  if (parsed.interface.empty() || parsed.mac.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source.Format(),
                     ": wants an interface and the endpoint's address, as in "
                     "tloe://eth1/04:3f:72:dd:0b:05?size=8G"));
  }
  return parsed;
}

absl::StatusOr<std::unique_ptr<TloeChannel>> OpenTloe(const Source& source) {
  OXMEM_ASSIGN_OR_RETURN(TloeSource parsed, ParseTloeSource(source));
  Options& options = parsed.options;
  options.engine.virtual_channel = parsed.virtual_channel.value_or(0);
  OXMEM_ASSIGN_OR_RETURN(
      Opened opened,
      parsed.udp ? OpenUdp(parsed) : OpenEthernet(parsed, &options.engine.virtual_channel));
  options.claim = std::move(opened.claim);
  return TloeChannel::Connect(std::move(opened.link), opened.peer, std::move(options));
}

}  // namespace oxmem::channel
