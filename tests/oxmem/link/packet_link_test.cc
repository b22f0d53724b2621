#include "oxmem/link/packet_link.h"

#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/net_namespace.h"
#include "transport/base/byte_order.h"
#include "transport/base/unique_fd.h"

namespace oxmem::link {
namespace {

using testing::HasSubstr;
using Frame = std::vector<std::byte>;
using OpenResult = absl::StatusOr<std::unique_ptr<Link>>;

constexpr MacAddress kOtherMac = {{0x02, 0, 0, 0, 0, 0x77}};

OpenResult OpenAt(const test::VethEnd& end, PacketLinkOptions options = {}) {
  OpenResult link = absl::UnknownError("not opened");
  if (options.interface.empty()) options.interface = end.interface;
  end.space.Run([&] { link = OpenPacketLink(options); });
  return link;
}

// An Ethernet frame, tagged for a VLAN if one is given, filled with one byte.
struct RawFrame {
  MacAddress to;
  MacAddress from;
  uint16_t ether_type = kDefaultEtherType;
  std::optional<uint16_t> vlan_tag;
  std::byte fill{0};
};

void SendRaw(const test::VethEnd& end, const RawFrame& raw) {
  Frame bytes(14 + (raw.vlan_tag ? 4 : 0) + 64, raw.fill);
  ByteWriter writer(bytes);
  writer.WriteBytes(std::as_bytes(std::span(raw.to.bytes)));
  writer.WriteBytes(std::as_bytes(std::span(raw.from.bytes)));
  if (raw.vlan_tag) {
    writer.WriteBigEndian<uint16_t>(ETH_P_8021Q);
    writer.WriteBigEndian<uint16_t>(*raw.vlan_tag);
  }
  writer.WriteBigEndian<uint16_t>(raw.ether_type);
  end.space.Run([&] {
    const UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_ifindex = static_cast<int>(if_nametoindex(end.interface.c_str()));
    ASSERT_EQ(sendto(fd.get(), bytes.data(), bytes.size(), 0,
                     reinterpret_cast<const sockaddr*>(&address), sizeof address),
              static_cast<ssize_t>(bytes.size()));
  });
}

// The fill bytes of the frames that have arrived, in order, and at least one.
std::vector<int> ReceiveFills(Link& link) {
  std::vector<int> fills;
  pollfd one = {link.fd(), POLLIN, 0};
  if (poll(&one, 1, 5000) <= 0) return fills;
  std::array<IncomingFrame, 16> frames;
  for (std::size_t n = link.Receive(frames); n != 0; n = link.Receive(frames)) {
    for (const IncomingFrame& frame : std::span(frames).first(n)) {
      EXPECT_EQ(frame.bytes.size(), 64u);
      fills.push_back(std::to_integer<int>(frame.bytes.back()));
    }
  }
  return fills;
}

class PacketLink : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = test::WhyNoNetNamespaces(); !why.empty()) GTEST_SKIP() << why;
    Make(1500);
  }

  void Make(std::size_t mtu) {
    auto veth = test::VethPair::Create(mtu);
    ASSERT_TRUE(veth.ok()) << veth.status();
    veth_.emplace(*std::move(veth));
  }

  const test::VethEnd& left() { return veth_->left(); }
  const test::VethEnd& right() { return veth_->right(); }

  RawFrame ToLeft(int fill) {
    return {.to = left().mac, .from = right().mac, .fill = static_cast<std::byte>(fill)};
  }

  std::string OpenError(PacketLinkOptions options = {}) {
    const OpenResult link = OpenAt(left(), std::move(options));
    EXPECT_FALSE(link.ok());
    return std::string(link.status().message());
  }

  std::optional<test::VethPair> veth_;
};

TEST_F(PacketLink, OnlyItsEtherTypeAndAddressComeIn) {
  auto link = OpenAt(left());
  ASSERT_TRUE(link.ok()) << link.status();
  RawFrame frame = ToLeft(1);
  frame.ether_type = 0x88b5;
  SendRaw(right(), frame);
  frame = ToLeft(2);
  frame.to = kOtherMac;
  SendRaw(right(), frame);
  frame = ToLeft(3);
  frame.to = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  SendRaw(right(), frame);
  SendRaw(right(), ToLeft(4));
  EXPECT_THAT(ReceiveFills(**link), testing::ElementsAre(4));
}

TEST_F(PacketLink, FramesOfAVlanStayOutsideAndPriorityTagsDoNotMatter) {
  auto link = OpenAt(left());
  ASSERT_TRUE(link.ok()) << link.status();
  RawFrame frame = ToLeft(1);
  frame.vlan_tag = 5;
  SendRaw(right(), frame);
  frame = ToLeft(2);
  frame.vlan_tag = 0x6000;
  SendRaw(right(), frame);
  SendRaw(right(), ToLeft(3));
  EXPECT_THAT(ReceiveFills(**link), testing::ElementsAre(2, 3));
}

TEST_F(PacketLink, AnotherEtherTypeCanBeChosenEvenZero) {
  for (const uint16_t ether_type : {uint16_t{0x88b5}, uint16_t{0}}) {
    PacketLinkOptions options;
    options.ether_type = ether_type;
    auto link = OpenAt(left(), options);
    ASSERT_TRUE(link.ok()) << link.status();
    auto peer = OpenAt(right(), options);
    ASSERT_TRUE(peer.ok()) << peer.status();
    SendRaw(right(), ToLeft(1));
    const Frame bytes(64, std::byte{2});
    const OutgoingFrame out = {(*link)->local_address(), bytes};
    ASSERT_TRUE((*peer)->Send({&out, 1}).ok());
    EXPECT_THAT(ReceiveFills(**link), testing::ElementsAre(2)) << ether_type;
  }
}

TEST_F(PacketLink, AnswersToAnotherAddressThanTheInterfaces) {
  PacketLinkOptions options;
  options.mac = kOtherMac;
  auto link = OpenAt(left(), options);
  ASSERT_TRUE(link.ok()) << link.status();
  EXPECT_EQ(MacOfAddress((*link)->local_address()), kOtherMac);
  SendRaw(right(), ToLeft(1));
  RawFrame frame = ToLeft(2);
  frame.to = kOtherMac;
  SendRaw(right(), frame);
  EXPECT_THAT(ReceiveFills(**link), testing::ElementsAre(2));

  auto peer = OpenAt(right());
  const Frame bytes(64, std::byte{3});
  const OutgoingFrame out = {(*peer)->local_address(), bytes};
  ASSERT_TRUE((*link)->Send({&out, 1}).ok());
  pollfd one = {(*peer)->fd(), POLLIN, 0};
  ASSERT_EQ(poll(&one, 1, 5000), 1);
  std::array<IncomingFrame, 2> in;
  ASSERT_EQ((*peer)->Receive(in), 1u);
  EXPECT_EQ(in[0].from, AddressOfMac(kOtherMac));
}

TEST_F(PacketLink, ARequesterSeesOnlyItsPeerAndVirtualChannel) {
  PacketLinkOptions options;
  options.peer = right().mac;
  options.virtual_channel = 3;
  auto link = OpenAt(left(), options);
  ASSERT_TRUE(link.ok()) << link.status();
  SendRaw(right(), ToLeft(0x20));  // virtual channel 1: the top three bits of the first byte
  RawFrame frame = ToLeft(0x60);
  frame.from = kOtherMac;
  SendRaw(right(), frame);
  SendRaw(right(), ToLeft(0x61));
  EXPECT_THAT(ReceiveFills(**link), testing::ElementsAre(0x61));
}

TEST_F(PacketLink, LongerFramesThanItsOwnLimitAreDroppedAndCounted) {
  PacketLinkOptions options;
  options.max_frame_bytes = 512;
  auto link = OpenAt(left(), options);
  ASSERT_TRUE(link.ok()) << link.status();
  auto peer = OpenAt(right());
  const Frame long_one(1000);
  const OutgoingFrame out = {(*link)->local_address(), long_one};
  ASSERT_TRUE((*peer)->Send({&out, 1}).ok());
  SendRaw(right(), ToLeft(7));
  EXPECT_THAT(ReceiveFills(**link), testing::ElementsAre(7));
  EXPECT_EQ((*link)->stats().receive_drops.value(), 1u);
}

TEST_F(PacketLink, AnUnknownInterfaceIsAnErrorThatListsTheOthers) {
  PacketLinkOptions options;
  options.interface = "leff0";
  EXPECT_THAT(OpenError(options),
              testing::AllOf(HasSubstr("\"leff0\""), HasSubstr("did you mean left0?"),
                             HasSubstr("there are: left0, lo")));
  options.interface = "wlan17";
  EXPECT_THAT(OpenError(options), testing::Not(HasSubstr("did you mean")));
  options.interface = "a-name-that-no-interface-can-have";
  EXPECT_THAT(OpenError(options), HasSubstr("there is no network interface"));
  options.interface = "left0:1";
  EXPECT_THAT(OpenError(options), HasSubstr("there is no network interface"));
}

TEST_F(PacketLink, AnInterfaceThatIsDownIsAnErrorThatSaysHowToSwitchItOn) {
  ASSERT_TRUE(left().space.Command({"ip", "link", "set", "left0", "down"}).ok());
  EXPECT_THAT(OpenError(),
              testing::AllOf(HasSubstr("left0 is down"), HasSubstr("ip link set left0 up")));
}

TEST_F(PacketLink, FramesThatDoNotFitTheMtuAreRefusedAtTheOpening) {
  PacketLinkOptions options;
  options.max_frame_bytes = 9000;
  EXPECT_THAT(OpenError(options), testing::AllOf(HasSubstr("9000"), HasSubstr("1500"),
                                                 HasSubstr("ip link set left0 mtu 9000")));
  options.max_frame_bytes = 48;
  EXPECT_THAT(OpenError(options), HasSubstr("56"));
}

TEST_F(PacketLink, ItsOwnAddressAsPeerIsRefused) {
  PacketLinkOptions options;
  options.peer = left().mac;
  EXPECT_THAT(OpenError(options), HasSubstr("own address"));
}

TEST_F(PacketLink, WithoutTheCapabilityTheErrorSaysHowToGetIt) {
  absl::Status status;
  left().space.Run([&] {
    // Capabilities belong to the thread, which ends after this.
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> none{};
    ASSERT_EQ(syscall(SYS_capset, &header, none.data()), 0);
    PacketLinkOptions options;
    options.interface = left().interface;
    status = OpenPacketLink(options).status();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(HasSubstr("CAP_NET_RAW"), HasSubstr("setcap cap_net_raw+ep /")));
}

TEST_F(PacketLink, ASecondNodeOnOneAddressIsRefusedAndTheFirstIsNamed) {
  auto first = OpenAt(left());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(OpenError(),
              testing::AllOf(HasSubstr("is already served by process " + std::to_string(getpid())),
                             HasSubstr("another address, as in tloe://")));
  PacketLinkOptions options;
  options.mac = kOtherMac;
  EXPECT_TRUE(OpenAt(left(), options).ok());
  options = {};
  options.ether_type = 0x88b5;
  EXPECT_TRUE(OpenAt(left(), options).ok());
  options = {};
  options.exclusive = false;
  EXPECT_TRUE(OpenAt(left(), options).ok());
  first = absl::UnknownError("closed");
  EXPECT_TRUE(OpenAt(left()).ok());
}

TEST_F(PacketLink, TwoRequestersShareAnAddressOnDifferentConnectionsOnly) {
  PacketLinkOptions options;
  options.peer = right().mac;
  options.virtual_channel = 0;
  const auto first = OpenAt(left(), options);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(OpenError(options), testing::AllOf(HasSubstr("in use by process"), HasSubstr("vc=")));
  options.virtual_channel = 1;
  EXPECT_TRUE(OpenAt(left(), options).ok());
}

TEST_F(PacketLink, AnInterfaceThatWasCreatedAnewIsFoundAgainUnderTheOldAddress) {
  auto link = OpenAt(left());
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE(left().space.Command({"ip", "link", "del", "left0"}).ok());
  const Frame bytes(64, std::byte{1});
  const OutgoingFrame out = {AddressOfMac(right().mac), bytes};
  const absl::Status gone = (*link)->Send({&out, 1});
  EXPECT_THAT(std::string(gone.message()), HasSubstr("there is no network interface \"left0\""));
  EXPECT_EQ((*link)->health().code(), absl::StatusCode::kNotFound);
  std::array<IncomingFrame, 1> in;
  EXPECT_EQ((*link)->Receive(in), 0u);

  const Address address = (*link)->local_address();
  ASSERT_TRUE(veth_->Recreate().ok());
  ASSERT_TRUE(
      left().space.Command({"ip", "link", "set", "left0", "address", "02:00:00:00:00:55"}).ok());
  auto peer = OpenAt(right());
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_TRUE((*link)->health().ok()) << (*link)->health();
  EXPECT_TRUE((*link)->Send({&out, 1}).ok());
  EXPECT_THAT(ReceiveFills(**peer), testing::ElementsAre(1));
  const OutgoingFrame back = {address, bytes};
  ASSERT_TRUE((*peer)->Send({&back, 1}).ok());
  EXPECT_THAT(ReceiveFills(**link), testing::ElementsAre(1));
}

TEST_F(PacketLink, ARingWhoseInterfaceWentDownStopsWakingItsOwner) {
  PacketLinkOptions options;
  options.receive = PacketReceive::kRing;
  auto link = OpenAt(left(), options);
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE(left().space.Command({"ip", "link", "set", "left0", "down"}).ok());
  pollfd one = {(*link)->fd(), POLLIN, 0};
  EXPECT_EQ(poll(&one, 1, 5000), 1);
  std::array<IncomingFrame, 1> in;
  int wake_ups = 0;
  for (; wake_ups < 1000 && poll(&one, 1, 0) > 0; ++wake_ups) EXPECT_EQ((*link)->Receive(in), 0u);
  EXPECT_LT(wake_ups, 100);
}

class PacketLinkReceiving : public PacketLink, public testing::WithParamInterface<PacketReceive> {};

INSTANTIATE_TEST_SUITE_P(Ways, PacketLinkReceiving,
                         testing::Values(PacketReceive::kBatch, PacketReceive::kRing),
                         [](const auto& instance) {
                           return instance.param == PacketReceive::kRing ? "Ring" : "Batch";
                         });

TEST_P(PacketLinkReceiving, ASideThatOnlyReceivesFindsItsInterfaceAgain) {
  PacketLinkOptions options;
  options.receive = GetParam();
  auto link = OpenAt(left(), options);
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE(left().space.Command({"ip", "link", "del", "left0"}).ok());
  std::array<IncomingFrame, 1> in;
  EXPECT_EQ((*link)->Receive(in), 0u);
  ASSERT_TRUE(veth_->Recreate().ok());
  // Looking for the interface is done at most every tenth of a second, whoever asks how often.
  const Instant until = Now() + Duration::Seconds(10);
  bool arrived = false;
  while (!arrived && Now() < until) {
    SendRaw(right(), ToLeft(1));
    for (int i = 0; i < 100 && !arrived; ++i) arrived = (*link)->Receive(in) == 1;
  }
  EXPECT_TRUE(arrived);
}

TEST_F(PacketLink, AnMtuThatWasLoweredIsToldByHealthAndBySend) {
  Make(9000);
  auto link = OpenAt(left());
  ASSERT_TRUE(link.ok()) << link.status();
  EXPECT_EQ((*link)->max_frame_bytes(), 9000u);
  ASSERT_TRUE(left().space.Command({"ip", "link", "set", "left0", "mtu", "1500"}).ok());
  const Frame bytes(9000);
  const OutgoingFrame out = {AddressOfMac(right().mac), bytes};
  EXPECT_THAT(std::string((*link)->Send({&out, 1}).message()),
              HasSubstr("the MTU of left0 is now 1500"));
  EXPECT_EQ((*link)->health().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ((*link)->stats().send_drops.value(), 1u);
}

TEST_F(PacketLink, AnAddressThatWasChangedIsToldByHealth) {
  auto link = OpenAt(left());
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE(
      left().space.Command({"ip", "link", "set", "left0", "address", "02:00:00:00:00:55"}).ok());
  EXPECT_THAT(std::string((*link)->health().message()),
              testing::AllOf(HasSubstr("02:00:00:00:00:0a"), HasSubstr("02:00:00:00:00:55")));
}

TEST_F(PacketLink, AMissingCarrierIsToldByHealth) {
  auto link = OpenAt(left());
  ASSERT_TRUE(link.ok()) << link.status();
  ASSERT_TRUE(right().space.Command({"ip", "link", "set", "right0", "down"}).ok());
  EXPECT_THAT(std::string((*link)->health().message()), HasSubstr("left0 has no carrier"));
}

TEST_F(PacketLink, WorksOnTheLoopbackInterfaceBetweenTwoChosenAddresses) {
  PacketLinkOptions options;
  options.interface = "lo";
  options.mac = kOtherMac;
  auto node = OpenAt(left(), options);
  ASSERT_TRUE(node.ok()) << node.status();
  options.mac = std::nullopt;  // it has the zero address, and nobody could answer that
  EXPECT_THAT(OpenAt(left(), options).status().message(), HasSubstr("no hardware address"));
  options.mac = MacAddress{{0x02, 0, 0, 0, 0, 0x78}};
  auto requester = OpenAt(left(), options);
  ASSERT_TRUE(requester.ok()) << requester.status();
  const Frame bytes(64, std::byte{9});
  const OutgoingFrame out = {AddressOfMac(kOtherMac), bytes};
  ASSERT_TRUE((*requester)->Send({&out, 1}).ok());
  EXPECT_THAT(ReceiveFills(**node), testing::ElementsAre(9));
}

}  // namespace
}  // namespace oxmem::link
