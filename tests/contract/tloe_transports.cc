#include "tests/contract/tloe_transports.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "oxmem/channel/tloe_channel.h"
#include "oxmem/link/memory_link.h"
#include "oxmem/node/node.h"
#include "transport/base/check.h"

namespace oxmem::transport {
namespace {

// The node gets its turns from the test; cut off, it gets none, and what is sent to it waits or is
// lost as on a wire with nobody at its end.
class TloeHarness final : public Harness {
 public:
  TloeHarness(const HarnessOptions& options, tloe::Protocol protocol, std::size_t max_frame_bytes)
      : memory_(options.size_bytes) {
    auto [near, far] = link::MakeMemoryLinkPair({.max_frame_bytes = max_frame_bytes});
    node::RegionMap regions;
    OXMEM_CHECK(regions.Add({.name = "data", .base = kBase, .memory = memory_}).ok());
    const link::Address peer = far->local_address();
    node_ = std::make_unique<node::Node>(node::NodeConfig{}, std::move(far), std::move(regions));

    channel::Options channel_options;
    channel_options.size_bytes = options.size_bytes;
    channel_options.base_address = kBase;
    channel_options.read_only = options.read_only;
    channel_options.depth = 64;
    channel_options.request_timeout = kTimeout;
    channel_options.engine.protocol = protocol;
    auto channel =
        channel::TloeChannel::Start(std::move(near), peer, std::move(channel_options), Now());
    OXMEM_CHECK(channel.ok());
    channel_ = *std::move(channel);
    while (!channel_->connected()) {
      Pump();
      channel_->Poll({});
    }
  }

  Channel& channel() override { return *channel_; }
  void Pump() override {
    if (!cut_) node_->Poll(Now());
  }
  int peer_fd() override { return cut_ ? -1 : node_->fd(); }
  Instant peer_deadline() override { return cut_ ? Instant::Never() : node_->next_deadline(); }
  bool CutPeer() override {
    cut_ = true;
    return true;
  }
  void RestorePeer() override { cut_ = false; }
  Duration request_timeout() override { return kTimeout; }

 private:
  static constexpr uint64_t kBase = 0x40000000;
  static constexpr Duration kTimeout = Duration::Milliseconds(500);

  std::vector<std::byte> memory_;
  std::unique_ptr<node::Node> node_;
  std::unique_ptr<channel::TloeChannel> channel_;
  bool cut_ = false;
};

}  // namespace

Transport TloeTransport(tloe::Protocol protocol, std::size_t max_frame_bytes) {
  const char* version = protocol == tloe::Protocol::k11 ? "11" : "103";
  return {absl::StrCat("tloe", version, "mtu", max_frame_bytes),
          [=](const HarnessOptions& options, std::string*) -> std::unique_ptr<Harness> {
            return std::make_unique<TloeHarness>(options, protocol, max_frame_bytes);
          }};
}

}  // namespace oxmem::transport
