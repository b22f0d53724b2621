#include "tests/oxmem/link/link_setup.h"

#include <utility>

#include "oxmem/link/memory_link.h"
#include "oxmem/link/packet_link.h"
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

class PacketSetup final : public LinkSetup {
 public:
  explicit PacketSetup(test::VethPair veth) : veth_(std::move(veth)) {}

  absl::Status Open() {
    OXMEM_ASSIGN_OR_RETURN(near_, OpenAt(veth_.left()));
    OXMEM_ASSIGN_OR_RETURN(far_, OpenAt(veth_.right()));
    return absl::OkStatus();
  }

  Link& near() override { return *near_; }
  Link& far() override { return *far_; }
  Address nobody() const override { return AddressOfMac({{0x02, 0, 0, 0, 0, 0xee}}); }
  bool can_switch() const override { return true; }
  void Switch(bool up) override {
    const auto& end = veth_.left();
    OXMEM_CHECK(end.space.Command({"ip", "link", "set", end.interface, up ? "up" : "down"}).ok());
    if (up) {
      OXMEM_CHECK(WaitUntilRunning(veth_.left()).ok());
      OXMEM_CHECK(WaitUntilRunning(veth_.right()).ok());
    }
  }

 private:
  static absl::StatusOr<std::unique_ptr<Link>> OpenAt(const test::VethEnd& end) {
    absl::StatusOr<std::unique_ptr<Link>> link = absl::UnknownError("not opened");
    end.space.Run([&] {
      PacketLinkOptions options;
      options.interface = end.interface;
      link = OpenPacketLink(options);
    });
    return link;
  }

  test::VethPair veth_;
  std::unique_ptr<Link> near_;
  std::unique_ptr<Link> far_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LinkSetup>> MakeMemorySetup() {
  return std::unique_ptr<LinkSetup>(std::make_unique<MemorySetup>());
}

absl::StatusOr<std::unique_ptr<LinkSetup>> MakePacketSetup() {
  OXMEM_ASSIGN_OR_RETURN(test::VethPair veth, test::VethPair::Create());
  auto setup = std::make_unique<PacketSetup>(std::move(veth));
  OXMEM_RETURN_IF_ERROR(setup->Open());
  return std::unique_ptr<LinkSetup>(std::move(setup));
}

}  // namespace oxmem::link
