#include "apps/source/tloe_facts.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "transport/base/size.h"

namespace oxmem::apps {
namespace {

const char* ProtocolName(tloe::Protocol protocol) {
  switch (protocol) {
    case tloe::Protocol::k103:
      return "OmniXtend 1.0.3";
    case tloe::Protocol::k11:
      return "OmniXtend 1.1";
  }
  return "";
}

const char* PeerName(tloe::PeerProfile peer) {
  switch (peer) {
    case tloe::PeerProfile::kAuto:
      return "not known yet";
    case tloe::PeerProfile::kSpec:
      return "as the specification says";
    case tloe::PeerProfile::kMemoryNode:
      return "memorynode";
    case tloe::PeerProfile::kOmnixtendC:
      return "omnixtend-c";
    case tloe::PeerProfile::kOxmemNbd:
      return "oxmem-nbd";
    case tloe::PeerProfile::kOxmemFuse:
      return "oxmem-fuse";
  }
  return "";
}

const char* OrderName(tilelink::DataOrder order) {
  switch (order) {
    case tilelink::DataOrder::kSpec:
      return "spec (the lowest address travels last in each word)";
    case tilelink::DataOrder::kMemory:
      return "memory (the lowest address travels first)";
  }
  return "";
}

}  // namespace

Facts TloeFacts(const channel::TloeChannel& channel, const transport::Source& source) {
  const tloe::EngineConfig& config = channel.engine().config();
  const std::string* base = source.Find("base");
  return {{"protocol", ProtocolName(config.protocol)},
          {"peer", PeerName(channel.engine().peer())},
          {"data order", OrderName(channel.engine().data_order())},
          {"virtual channel", absl::StrCat(config.virtual_channel)},
          {"base", base == nullptr ? "0" : *base},
          {"link", channel.link().name()},
          {"own address", channel.link().FormatAddress(channel.link().local_address())},
          {"frame", absl::StrCat(config.max_frame_bytes, " bytes at most")},
          {"largest message", FormatSize(uint64_t{1} << channel.largest_message_size())}};
}

}  // namespace oxmem::apps
