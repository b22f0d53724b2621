#include "tests/oxmem/link/link_setup.h"

#include <optional>
#include <utility>

#include "oxmem/link/memory_link.h"
#include "oxmem/link/packet_link.h"
#include "oxmem/link/udp_link.h"
#include "tests/support/net_namespace.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

class MemorySetup final : public LinkSetup {
 public:
  MemorySetup() : near_(network_.Attach()), far_(network_.Attach()) {}
  Link& near() override { return *near_; }
  Link& far() override { return *far_; }
  Address nobody() const override {
    Address address;
    address.bytes.fill(0xee);
    return address;
  }
  bool can_switch() const override { return true; }
  void Switch(bool up) override { network_.SetUp(*near_, up); }

 private:
  MemoryNetwork network_;
  std::unique_ptr<Link> near_;
  std::unique_ptr<Link> far_;
};

void SwitchVeth(const test::VethPair& veth, bool up) {
  const test::VethEnd& end = veth.left();
  OXMEM_CHECK(end.space.Command({"ip", "link", "set", end.interface, up ? "up" : "down"}).ok());
  if (!up) return;
  OXMEM_CHECK(WaitUntilRunning(veth.left()).ok());
  OXMEM_CHECK(WaitUntilRunning(veth.right()).ok());
}

class PacketSetup final : public LinkSetup {
 public:
  PacketSetup(test::VethPair veth, PacketReceive receive)
      : veth_(std::move(veth)), receive_(receive) {}

  absl::Status Open() {
    OXMEM_ASSIGN_OR_RETURN(near_, OpenAt(veth_.left()));
    OXMEM_ASSIGN_OR_RETURN(far_, OpenAt(veth_.right()));
    return absl::OkStatus();
  }

  Link& near() override { return *near_; }
  Link& far() override { return *far_; }
  Address nobody() const override { return AddressOfMac({{0x02, 0, 0, 0, 0, 0xee}}); }
  bool can_switch() const override { return true; }
  void Switch(bool up) override { SwitchVeth(veth_, up); }

 private:
  absl::StatusOr<std::unique_ptr<Link>> OpenAt(const test::VethEnd& end) const {
    absl::StatusOr<std::unique_ptr<Link>> link = absl::UnknownError("not opened");
    end.space.Run([&] {
      PacketLinkOptions options;
      options.interface = end.interface;
      options.receive = receive_;
      options.ring_bytes = std::size_t{12} << 20;  // 180 of the longest frames
      link = OpenPacketLink(options);
    });
    return link;
  }

  test::VethPair veth_;
  const PacketReceive receive_;
  std::unique_ptr<Link> near_;
  std::unique_ptr<Link> far_;
};

// A requester (near) that names its node (far).
class UdpSetup final : public LinkSetup {
 public:
  explicit UdpSetup(std::optional<test::VethPair> veth) : veth_(std::move(veth)) {}

  absl::Status OpenOnVeth() {
    for (const auto& [end, ip] :
         {std::pair(&veth_->left(), "192.0.2.1/24"), std::pair(&veth_->right(), "192.0.2.2/24")}) {
      OXMEM_RETURN_IF_ERROR(
          end->space.Command({"ip", "addr", "add", ip, "dev", end->interface}).status());
    }
    OXMEM_RETURN_IF_ERROR(In(veth_->right(), [&] { return OpenFar("192.0.2.2:0"); }));
    OXMEM_RETURN_IF_ERROR(In(veth_->left(), [&] { return OpenNear(); }));
    OXMEM_ASSIGN_OR_RETURN(nobody_, ResolveUdpAddress("192.0.2.2:9"));
    return absl::OkStatus();
  }

  absl::Status OpenOnLoopback() {
    OXMEM_RETURN_IF_ERROR(OpenFar("[::1]:0"));
    OXMEM_RETURN_IF_ERROR(OpenNear());
    OXMEM_ASSIGN_OR_RETURN(nobody_, ResolveUdpAddress("[::1]:9"));
    return absl::OkStatus();
  }

  Link& near() override { return *near_; }
  Link& far() override { return *far_; }
  Address nobody() const override { return nobody_; }
  bool can_switch() const override { return veth_.has_value(); }
  void Switch(bool up) override { SwitchVeth(*veth_, up); }

 private:
  template <typename Body>
  static absl::Status In(const test::VethEnd& end, Body body) {
    absl::Status status;
    end.space.Run([&] { status = body(); });
    return status;
  }

  absl::Status OpenFar(const char* host_and_port) {
    UdpLinkOptions options;
    OXMEM_ASSIGN_OR_RETURN(options.local, ResolveUdpAddress(host_and_port));
    OXMEM_ASSIGN_OR_RETURN(far_, OpenUdpLink(options));
    return absl::OkStatus();
  }

  absl::Status OpenNear() {
    UdpLinkOptions options;
    options.peer = far_->local_address();
    OXMEM_ASSIGN_OR_RETURN(near_, OpenUdpLink(options));
    return absl::OkStatus();
  }

  std::optional<test::VethPair> veth_;
  std::unique_ptr<Link> near_;
  std::unique_ptr<Link> far_;
  Address nobody_;
};

absl::StatusOr<std::unique_ptr<LinkSetup>> MakePackets(PacketReceive receive, std::size_t mtu) {
  OXMEM_ASSIGN_OR_RETURN(test::VethPair veth, test::VethPair::Create(mtu));
  auto setup = std::make_unique<PacketSetup>(std::move(veth), receive);
  OXMEM_RETURN_IF_ERROR(setup->Open());
  return std::unique_ptr<LinkSetup>(std::move(setup));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LinkSetup>> MakeUdpSetup() {
  OXMEM_ASSIGN_OR_RETURN(test::VethPair veth, test::VethPair::Create());
  auto setup = std::make_unique<UdpSetup>(std::move(veth));
  OXMEM_RETURN_IF_ERROR(setup->OpenOnVeth());
  return std::unique_ptr<LinkSetup>(std::move(setup));
}

absl::StatusOr<std::unique_ptr<LinkSetup>> MakeUdpLoopbackSetup() {
  auto setup = std::make_unique<UdpSetup>(std::nullopt);
  OXMEM_RETURN_IF_ERROR(setup->OpenOnLoopback());
  return std::unique_ptr<LinkSetup>(std::move(setup));
}

std::string WhyNoIpv6() {
  UdpLinkOptions options;
  const auto address = ResolveUdpAddress("[::1]:0");
  if (!address.ok()) return std::string(address.status().message());
  options.local = *address;
  const auto link = OpenUdpLink(options);
  return link.ok() ? "" : std::string(link.status().message());
}

absl::StatusOr<std::unique_ptr<LinkSetup>> MakeMemorySetup() {
  return std::unique_ptr<LinkSetup>(std::make_unique<MemorySetup>());
}

absl::StatusOr<std::unique_ptr<LinkSetup>> MakePacketSetup() {
  return MakePackets(PacketReceive::kBatch, 1500);
}

absl::StatusOr<std::unique_ptr<LinkSetup>> MakePacketRingSetup() {
  return MakePackets(PacketReceive::kRing, 1500);
}

absl::StatusOr<std::unique_ptr<LinkSetup>> MakePacketRingLongSetup() {
  return MakePackets(PacketReceive::kRing, 65535);
}

}  // namespace oxmem::link
