#include "apps/serve/tloe_endpoint.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/common/cpu_placement.h"
#include "oxmem/link/packet_link.h"
#include "oxmem/link/udp_link.h"
#include "transport/api/option_reader.h"
#include "transport/base/log.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

using transport::OptionReader;
using transport::Source;

// A thread with nothing to do looks this often whether its link is still there.
constexpr Duration kLinkCheckInterval = Duration::Seconds(1);
// How long to wait for another node that has the address already, and how often to say that this
// one has it.
constexpr Duration kClaimWait = Duration::Milliseconds(40);
constexpr Duration kAnnounceInterval = Duration::Seconds(5);
// Peers that are there acknowledge a close within a round trip or two.
constexpr Duration kCloseTime = Duration::Milliseconds(300);

struct Listen {
  node::NodeConfig config;
  std::size_t max_frame_bytes = 0;
  uint16_t ether_type = link::kDefaultEtherType;
  link::PacketReceive receive = link::PacketReceive::kAuto;
  int hops = 0;
};

using Order = std::optional<tilelink::DataOrder>;
using Protocol = std::optional<tloe::Protocol>;

absl::StatusOr<Listen> ReadOptions(const Source& source) {
  Listen listen;
  OptionReader reader(source);
  listen.config.protocol = reader.Enum<Protocol>(
      "protocol", std::nullopt,
      {{"any", std::nullopt}, {"1.1", tloe::Protocol::k11}, {"1.0.3", tloe::Protocol::k103}});
  listen.config.engine.data_order = reader.Enum<Order>("data_order", std::nullopt,
                                                       {{"auto", std::nullopt},
                                                        {"spec", tilelink::DataOrder::kSpec},
                                                        {"memory", tilelink::DataOrder::kMemory}});
  listen.config.engine.peer =
      reader.Enum<tloe::PeerProfile>("peer", tloe::PeerProfile::kAuto,
                                     {{"auto", tloe::PeerProfile::kAuto},
                                      {"spec", tloe::PeerProfile::kSpec},
                                      {"omnixtend-c", tloe::PeerProfile::kOmnixtendC},
                                      {"oxmem-nbd", tloe::PeerProfile::kOxmemNbd},
                                      {"oxmem-fuse", tloe::PeerProfile::kOxmemFuse}});
  listen.max_frame_bytes = reader.Number("mtu", 0, 0, 65535);
  if (source.scheme == "tloe") {
    listen.ether_type =
        static_cast<uint16_t>(reader.Number("ethertype", link::kDefaultEtherType, 0, 0xffff));
    listen.receive = reader.Enum<link::PacketReceive>("link", link::PacketReceive::kAuto,
                                                      {{"auto", link::PacketReceive::kAuto},
                                                       {"packet", link::PacketReceive::kBatch},
                                                       {"ring", link::PacketReceive::kRing}});
  } else {
    listen.hops = static_cast<int>(reader.Number("hops", 0, 0, 255));
  }
  OXMEM_RETURN_IF_ERROR(reader.Finish());
  return listen;
}

absl::StatusOr<std::unique_ptr<link::Link>> OpenEthernet(const Source& source,
                                                         const Listen& listen) {
  if (source.authority.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        source.Format(), ": wants an interface, as in tloe://eth1 or tloe://eth1/MAC"));
  }
  link::PacketLinkOptions options;
  options.interface = source.authority;
  options.ether_type = listen.ether_type;
  options.receive = listen.receive;
  options.max_frame_bytes = listen.max_frame_bytes;
  if (!source.path_name().empty()) {
    OXMEM_ASSIGN_OR_RETURN(options.mac, link::ParseMacAddress(source.path_name()));
  }
  return link::OpenPacketLink(options);
}

absl::StatusOr<std::unique_ptr<link::Link>> OpenUdp(const Source& source, const Listen& listen) {
  link::UdpLinkOptions options;
  OXMEM_ASSIGN_OR_RETURN(options.local, link::ResolveUdpAddress(source.authority));
  options.max_frame_bytes = listen.max_frame_bytes;
  options.hops = listen.hops;
  return link::OpenUdpLink(options);
}

// Nothing on an interface that reaches nobody.
absl::StatusOr<std::optional<link::AddressWatch>> ClaimAddress(const Source& source,
                                                               const Listen& listen,
                                                               const link::Link& link) {
  const link::MacAddress mac = link::MacOfAddress(link.local_address());
  absl::StatusOr<link::AddressWatch> watch =
      link::AddressWatch::Open(source.authority, mac, listen.ether_type);
  if (!watch.ok()) {
    spdlog::warn("{}: other nodes with the address {} will not be noticed: {}", source.Format(),
                 link::FormatMacAddress(mac), std::string(watch.status().message()));
    return std::nullopt;
  }
  OXMEM_RETURN_IF_ERROR(watch->Claim(kClaimWait));
  return std::optional<link::AddressWatch>(*std::move(watch));
}

std::string DescribeProtocol(const Protocol& protocol) {
  if (!protocol) return "1.1 or 1.0.3, as the peer begins";
  return *protocol == tloe::Protocol::k11 ? "1.1" : "1.0.3";
}

std::string DescribeOrder(const Order& order) {
  if (!order) return "as the peer's kind uses it";
  return *order == tilelink::DataOrder::kSpec ? "spec" : "memory";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Endpoint>> TloeEndpoint::Open(const Source& source,
                                                             const RegionStore& store,
                                                             const EndpointOptions& options) {
  OXMEM_ASSIGN_OR_RETURN(Listen listen, ReadOptions(source));
  const bool ethernet = source.scheme == "tloe";
  if (!ethernet && !options.allowed.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--allow lists MAC addresses and cannot protect ", source.Format(),
        ": leave one of the two out (UDP is reached from the same network only, see hops=)"));
  }
  listen.config.max_connections = options.max_connections;
  for (const link::MacAddress& mac : options.allowed) {
    listen.config.allowed.push_back(link::AddressOfMac(mac));
  }
  OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<link::Link> link,
                         ethernet ? OpenEthernet(source, listen) : OpenUdp(source, listen));
  std::optional<link::AddressWatch> watch;
  if (ethernet) {
    OXMEM_ASSIGN_OR_RETURN(watch, ClaimAddress(source, listen, *link));
  }
  const std::string address = link->FormatAddress(link->local_address());
  const std::string name = ethernet ? absl::StrCat("tloe://", source.authority, "/", address)
                                    : absl::StrCat("tloe+udp://", address);
  Facts facts = {{"address", address},
                 {"frame", absl::StrCat(link->max_frame_bytes(), " bytes at most")},
                 {"protocol", DescribeProtocol(listen.config.protocol)},
                 {"data_order", DescribeOrder(listen.config.engine.data_order)}};
  OXMEM_ASSIGN_OR_RETURN(LazyTimer timer, LazyTimer::Create());
  auto node = std::make_unique<node::Node>(listen.config, std::move(link), store.map());
  std::unique_ptr<TloeEndpoint> endpoint(
      new TloeEndpoint(name, std::move(facts), options, std::move(node), std::move(timer)));
  endpoint->address_watch_ = std::move(watch);
  endpoint->stop_event_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!endpoint->stop_event_.valid()) {
    return ErrnoStatus(errno, "cannot create an event descriptor");
  }
  return endpoint;
}

TloeEndpoint::TloeEndpoint(std::string name, Facts facts, const EndpointOptions& options,
                           std::unique_ptr<node::Node> node, LazyTimer timer)
    : name_(std::move(name)),
      facts_(std::move(facts)),
      options_(options),
      node_(std::move(node)),
      timer_(std::move(timer)) {}

TloeEndpoint::~TloeEndpoint() {
  RequestStop();
  Join();
}

absl::Status TloeEndpoint::Start() {
  thread_ = std::thread([this] { Serve(); });
  return absl::OkStatus();
}

void TloeEndpoint::RequestStop() {
  stop_ = true;
  eventfd_write(stop_event_.get(), 1);
}

void TloeEndpoint::Join() {
  if (thread_.joinable()) thread_.join();
}

void TloeEndpoint::Serve() {
  if (options_.cpu >= 0) {
    if (const absl::Status pinned = PinThread(options_.cpu); !pinned.ok()) {
      spdlog::warn("{}: {}", name_, std::string(pinned.message()));
    }
  }
  Instant now = Now();
  Instant spin_until = now;
  Instant link_check = now + kLinkCheckInterval;
  while (!stop_.load(std::memory_order_relaxed)) {
    const bool worked = node_->Poll(now);
    Instant after = Now();
    if (worked) {
      service_time_.Record(after - now);
      spin_until = after + options_.spin;
    } else if (after >= spin_until) {
      Sleep(after, link_check);
      after = Now();
    } else {
      // Whoever waits for this processor may be the one who has the next frame for us.
      sched_yield();
      after = Now();
    }
    now = after;
    if (now < link_check) continue;
    link_check = now + kLinkCheckInterval;
    WatchLink();
  }
  Close();
}

void TloeEndpoint::Close() {
  Instant now = Now();
  node_->Close(now);
  const Instant until = now + kCloseTime;
  while (node_->stats().connections.value() != 0 && now < until) {
    if (!node_->Poll(now)) Sleep(now, until);
    now = Now();
  }
}

void TloeEndpoint::Sleep(Instant now, Instant until) {
  // The event stays readable from the stop on: closing waits for frames and time alone.
  const int stop_fd = stop_.load(std::memory_order_relaxed) ? -1 : stop_event_.get();
  timer_.Set(now, std::min(node_->next_deadline(), until));
  std::array<pollfd, 3> fds = {pollfd{node_->fd(), POLLIN, 0}, pollfd{stop_fd, POLLIN, 0},
                               pollfd{timer_.fd(), POLLIN, 0}};
  poll(fds.data(), fds.size(), -1);
}

void TloeEndpoint::WatchLink() {
  const absl::Status health = node_->link().health();
  if (health.ok() == link_ok_) return;
  link_ok_ = health.ok();
  if (link_ok_) {
    spdlog::info("{}: the link works again", name_);
    node_->ForgetFrameLimits();
  } else {
    spdlog::warn("{}: {}", name_, std::string(health.message()));
  }
}

void TloeEndpoint::WatchAddress() {
  if (!address_watch_) return;
  const bool shared = address_watch_->Poll();
  if (shared && !shared_address_) {
    shared_address_ = true;
    spdlog::error(
        "{}: another node on this network has the same address: requesters reach one or the other "
        "by chance, and their data is on both (stop one of them)",
        name_);
  }
  if (const Instant now = Now(); now >= next_announcement_) {
    next_announcement_ = now + kAnnounceInterval;
    address_watch_->Announce();
  }
}

Part TloeEndpoint::Figures() const {
  Part part;
  part.kind = "node";
  part.name = name_;
  part.facts = facts_;
  ForEachCounter(node_->stats(), part.Adder());
  ForEachCounter(node_->executor_stats(), part.Adder());
  const link::LinkStats& link = node_->link().stats();
  part.Adder()("link_send_drops", false, "frames the kernel did not take", link.send_drops);
  part.Adder()("link_receive_drops", false, "frames the kernel dropped before the node had them",
               link.receive_drops);
  part.AddLatency("service_time", "from taking frames to having sent what they ask for",
                  service_time_);
  return part;
}

}  // namespace oxmem::apps
