// Multicast groups: what a member hears, and what it does not, from senders that say what they
// want.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>

#include "rdma/nex/config.h"
#include "rdma/nex/datagram.h"
#include "rdma/nex/wire.h"
#include "tests/e2e/nex/verbs/device.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kGroupQpn = 0xffffff;

Gid GidIn(const char* text) {
  Gid gid;
  EXPECT_TRUE(ParseAddress(text, &gid));
  return gid;
}

std::size_t OpenDescriptors() {
  std::size_t count = 0;
  DIR* folder = opendir("/proc/self/fd");
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

// An interface besides loopback that takes part in multicast, or 0.
int OtherInterface() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return 0;
  int index = 0;
  constexpr unsigned kWanted = IFF_UP | IFF_RUNNING | IFF_MULTICAST;
  for (const ifaddrs* i = list; i != nullptr && index == 0; i = i->ifa_next) {
    const bool v6 = i->ifa_addr != nullptr && i->ifa_addr->sa_family == AF_INET6;
    if (v6 && (i->ifa_flags & kWanted) == kWanted && (i->ifa_flags & IFF_LOOPBACK) == 0) {
      index = static_cast<int>(if_nametoindex(i->ifa_name));
    }
  }
  freeifaddrs(list);
  return index;
}

class Multicast : public VerbsTest {
 protected:
  const Gid kGroup4 = GidIn("239.7.7.7");
  const Gid kGroup6 = GidIn("ff15::7:7");

  void SetUp() override {
    VerbsTest::SetUp();
    port_ = static_cast<std::uint16_t>(std::stoi(std::getenv("NEX_PORT")) + int{kSlots});
    options_.type = IBV_QPT_UD;
    qp_ = NewMember();
    for (std::uint64_t i = 0; i < 4; ++i) EXPECT_EQ(0, Receive(qp_, i, {Range(4096 * i, 256)}));
  }
  void TearDown() override {
    for (const auto& [qp, group] : joined_) Detach(qp, group);
    VerbsTest::TearDown();
  }

  ibv_qp* NewMember() {
    ibv_qp* qp = MakeQp(options_);
    ToInit(qp, options_);
    ToRts(qp, {}, options_);
    return qp;
  }
  static int Detach(ibv_qp* qp, const Gid& group) {
    ibv_gid raw;
    std::memcpy(raw.raw, group.data(), group.size());
    return ibv_detach_mcast(qp, &raw, 0);
  }
  int Attach(ibv_qp* qp, const Gid& group) {
    ibv_gid raw;
    std::memcpy(raw.raw, group.data(), group.size());
    const int error = ibv_attach_mcast(qp, &raw, 0);
    if (error == 0) joined_.emplace_back(qp, group);
    return error;
  }
  // A datagram of so many bytes as any program can send one, over the interface: `to` is where it
  // goes in fact.
  void Say(const Gid& to, const DatagramHeader& header, std::size_t bytes, int interface) {
    const UniqueFd fd(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ip_mreqn request{};
    request.imr_ifindex = interface;
    setsockopt(fd.get(), IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request);
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, &interface, sizeof interface);
    std::vector<std::byte> packet(kDatagramHeaderBytes + bytes);
    EncodeDatagram(header, std::span(packet).first<kDatagramHeaderBytes>());
    const sockaddr_in6 there = nex::AddressOf(to, port_);
    // To a port on which nobody listens it may fail.
    sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&there),
           sizeof there);
  }
  void Say(const Gid& to, const DatagramHeader& header, std::size_t bytes) {
    Say(to, header, bytes, static_cast<int>(if_nametoindex("lo")));
  }
  DatagramHeader To(const Gid& group, std::uint32_t qpn = kGroupQpn) const {
    DatagramHeader header;
    header.source_qpn = 0x123456;
    header.source_gid = GidIn("192.0.2.77");
    header.destination_qpn = qpn;
    header.destination_gid = group;
    header.queue_key = kTestQueueKey;
    header.has_grh = true;
    return header;
  }
  // The lengths of the next datagrams.
  std::vector<std::size_t> Heard(std::size_t count) {
    std::vector<std::size_t> lengths;
    for (const ibv_wc& wc : Wait(cq_, count)) lengths.push_back(wc.byte_len - kGrhBytes);
    return lengths;
  }

  QpOptions options_;
  std::uint16_t port_ = 0;
  ibv_qp* qp_ = nullptr;
  std::vector<std::pair<ibv_qp*, Gid>> joined_;
};

using Lengths = std::vector<std::size_t>;

TEST_F(Multicast, TheSharedPortTakesOnlyWhatWasSentToTheGroup) {
  ASSERT_EQ(0, Attach(qp_, kGroup4));
  Say(GidIn("127.0.0.1"), To(kGroup4, qp_->qp_num), 1);
  Say(GidIn("127.0.0.1"), To(kGroup4), 2);
  Say(kGroup4, To(kGroup4, qp_->qp_num), 3);
  Say(kGroup4, To(GidIn("239.7.7.8")), 4);
  Say(kGroup4, To(kGroup4), 5);
  EXPECT_EQ(Lengths{5}, Heard(1));
}

TEST_F(Multicast, OtherInterfacesAreNotHeard) {
  const int other = OtherInterface();
  if (other == 0) GTEST_SKIP() << "there is no other interface with multicast";
  // Another program has joined it there, so the system takes it in.
  const UniqueFd elsewhere(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ip_mreqn request4{};
  std::memcpy(&request4.imr_multiaddr, &kGroup4[12], 4);
  request4.imr_ifindex = other;
  ipv6_mreq request6{};
  std::memcpy(&request6.ipv6mr_multiaddr, kGroup6.data(), kGroup6.size());
  request6.ipv6mr_interface = static_cast<unsigned>(other);
  setsockopt(elsewhere.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &request4, sizeof request4);
  setsockopt(elsewhere.get(), IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &request6, sizeof request6);
  ASSERT_EQ(0, Attach(qp_, kGroup4));
  ASSERT_EQ(0, Attach(qp_, kGroup6));
  Say(kGroup6, To(kGroup6), 1, other);
  Say(kGroup4, To(kGroup4), 2, other);
  Say(kGroup4, To(kGroup4), 3);  // IPv6 has no way to groups over loopback
  EXPECT_EQ(Lengths{3}, Heard(1));
}

TEST_F(Multicast, AttachingAgainDoesNothing) {
  ASSERT_EQ(0, Attach(qp_, kGroup4));
  ASSERT_EQ(0, Attach(qp_, kGroup4));
  joined_.pop_back();
  Say(kGroup4, To(kGroup4), 1);
  Say(kGroup4, To(kGroup4), 2);
  EXPECT_EQ((Lengths{1, 2}), Heard(2));
  EXPECT_EQ(0, Detach(qp_, kGroup4));
  EXPECT_EQ(EINVAL, Detach(qp_, kGroup4));
  joined_.clear();
  EXPECT_EQ(0, Attach(qp_, kGroup4));
}

TEST_F(Multicast, AMemberHearsWhatItSaysItself) {
  ASSERT_EQ(0, Attach(qp_, kGroup4));
  ibv_ah_attr path{};
  path.port_num = 1;
  path.is_global = 1;
  std::memcpy(path.grh.dgid.raw, kGroup4.data(), kGroup4.size());
  path.grh.sgid_index = gid_index_;
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ASSERT_NE(nullptr, ah);
  ibv_send_wr wr = Wr(100, IBV_WR_SEND);
  wr.send_flags = 0;
  wr.wr.ud = {ah, kGroupQpn, kTestQueueKey};
  ASSERT_EQ(0, Send(qp_, wr, {Range(65536, 9)}));
  const auto done = Wait(cq_, 1);
  ASSERT_EQ(1u, done.size());
  EXPECT_EQ(kGrhBytes + 9, done[0].byte_len);
  EXPECT_EQ(qp_->qp_num, done[0].src_qp);
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Multicast, AMemberThatWantsToIsDeafToItselfButNotToAnotherHostsOfItsNumber) {
  ibv_qp_init_attr_ex init{};
  init.qp_type = IBV_QPT_UD;
  init.send_cq = init.recv_cq = cq_;
  init.cap = {4, 4, 1, 1, 0};
  init.pd = pd_;
  init.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_CREATE_FLAGS;
  init.create_flags = IBV_QP_CREATE_BLOCK_SELF_MCAST_LB;
  ibv_qp* deaf = ibv_create_qp_ex(context_, &init);
  ASSERT_NE(nullptr, deaf);
  qps_.push_back(deaf);
  ToInit(deaf, options_);
  ToRts(deaf, {}, options_);
  ASSERT_EQ(0, Receive(deaf, 7, {Range(65536, 256)}));
  ASSERT_EQ(0, Attach(deaf, kGroup4));
  DatagramHeader header = To(kGroup4);
  header.source_qpn = deaf->qp_num;
  const ibv_gid own = AddressOf(deaf).gid;
  std::memcpy(header.source_gid.data(), own.raw, sizeof own.raw);
  Say(kGroup4, header, 1);
  header.source_gid = GidIn("192.0.2.77");
  Say(kGroup4, header, 2);
  EXPECT_EQ(Lengths{2}, Heard(1));
  init.qp_type = IBV_QPT_RC;
  EXPECT_EQ(nullptr, ibv_create_qp_ex(context_, &init));
  EXPECT_EQ(EOPNOTSUPP, errno);
}

TEST_F(Multicast, ManyGroupsCanBeJoinedAndNothingIsLeftOfThem) {
  const std::size_t before = OpenDescriptors();
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(0, Attach(qp_, GidIn(("239.8.0." + std::to_string(i)).c_str()))) << i;
  }
  ibv_qp* other = NewMember();
  ASSERT_EQ(0, Attach(other, joined_[0].second));
  Say(joined_[99].second, To(joined_[99].second), 7);
  EXPECT_EQ(Lengths{7}, Heard(1));
  for (const auto& [qp, group] : joined_) EXPECT_EQ(0, Detach(qp, group));
  joined_.clear();
  EXPECT_EQ(before, OpenDescriptors());
}

TEST_F(Multicast, AGroupHasAsManyMembersAsTheDeviceSays) {
  ibv_device_attr device;
  ASSERT_EQ(0, ibv_query_device(context_, &device));
  options_.depth = 1;
  std::vector<ibv_qp*> members;
  for (int i = 0; i < device.max_mcast_qp_attach; ++i) {
    members.push_back(MakeQp(options_));
    ASSERT_EQ(0, Attach(members.back(), kGroup4)) << i;
  }
  EXPECT_EQ(ENOMEM, Attach(qp_, kGroup4));
  EXPECT_EQ(0, Attach(members[0], kGroup4));  // it is one already
  joined_.pop_back();
  EXPECT_EQ(0, Detach(members[1], kGroup4));
  joined_.erase(joined_.begin() + 1);
  EXPECT_EQ(0, Attach(qp_, kGroup4));
}

TEST_F(Multicast, APortThatIsTakenInOneFamilyIsFreeInTheOther) {
  const UniqueFd taken(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  setsockopt(taken.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  const sockaddr_in6 any = nex::AddressOf({}, port_);
  ASSERT_EQ(0, bind(taken.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any));
  const std::size_t before = OpenDescriptors();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(EADDRINUSE, Attach(qp_, kGroup6));
  EXPECT_EQ(before, OpenDescriptors());
  EXPECT_EQ(0, Attach(qp_, kGroup4));
}

}  // namespace
}  // namespace oxmem::nex
