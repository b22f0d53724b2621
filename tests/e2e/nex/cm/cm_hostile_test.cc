// What anybody can say to a port of the connection manager closes its own connection and touches
// nothing else: what a server's port hears, and what a client hears from a server.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <random>

#include "tests/e2e/nex/cm/cm_fixture.h"

namespace oxmem::nex {
namespace {

using Script = std::function<void(const CmPeer&)>;

constexpr CmMessageType kAllTypes[] = {CmMessageType::kRequest, CmMessageType::kReply,
                                       CmMessageType::kReadyToUse, CmMessageType::kReject,
                                       CmMessageType::kDisconnect};

Script Says(CmMessageType type) {
  return [type](const CmPeer& peer) { peer.Say(type); };
}
Script SaysTwice(CmMessageType first, CmMessageType second) {
  return [=](const CmPeer& peer) {
    peer.Say(first);
    peer.Say(second);
  };
}
Script SaysNoise() {
  return [](const CmPeer& peer) { peer.Say(std::vector<std::byte>(kCmMessageBytes)); };
}
Script SaysHalf(CmMessageType type) {
  return [type](const CmPeer& peer) {
    const auto bytes = CmPeer::Bytes(peer.Message(type));
    peer.Say(std::span(bytes).first(100));
    peer.Finish();
  };
}
Script Ends() {
  return [](const CmPeer& peer) { peer.Finish(); };
}

std::size_t ResidentBytes() {
  std::size_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

class CmHostile : public CmTest {
 protected:
  void SetUp() override {
    CmTest::SetUp();
    good_ = Connect();
    Exchange(good_);
    descriptors_ = OpenDescriptors();
  }
  void TearDown() override {
    Destroy(good_.client);
    Destroy(good_.server);
    CmTest::TearDown();
  }
  // The good pair goes on, another one can be made, and nothing of the others is left.
  void NothingElseHappened() {
    Exchange(good_);
    EXPECT_FALSE(HasEvent(client_channel_));
    const CmPair another = Connect();
    Exchange(another);
    Destroy(another.client);
    Destroy(another.server);
    while (HasEvent(server_channel_)) {
      EXPECT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_DISCONNECTED));
    }
    EXPECT_TRUE(DescriptorsFallTo(descriptors_));
  }
  CmPeer Dial() { return CmPeer::Dial(PortOf(listener_)); }
  // A peer whose request has come to the program, and what the program has of it.
  CmPeer Request(rdma_cm_id** id) {
    CmPeer peer = Dial();
    peer.Say(CmMessageType::kRequest);
    CmSeen seen;
    EXPECT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &seen));
    *id = seen.id;
    return peer;
  }

  CmPair good_;
  std::size_t descriptors_ = 0;
};

TEST_F(CmHostile, MessagesCutAtEveryByte) {
  for (const CmMessageType type : kAllTypes) {
    for (std::size_t cut = 0; cut < kCmMessageBytes; ++cut) {
      const CmPeer peer = Dial();
      const auto bytes = CmPeer::Bytes(peer.Message(type));
      peer.Say(std::span(bytes).first(cut));
      peer.Finish();
      ASSERT_TRUE(peer.Closed());
    }
  }
  EXPECT_FALSE(HasEvent(server_channel_));
  NothingElseHappened();
}

TEST_F(CmHostile, RequestsInPiecesOfOneByteAreRequests) {
  const CmPeer peer = Dial();
  const auto bytes = CmPeer::Bytes(peer.Message(CmMessageType::kRequest));
  for (const std::byte& byte : bytes) peer.Say({&byte, 1});
  CmSeen seen;
  ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &seen));
  EXPECT_EQ(0, rdma_reject(seen.id, "no", 2));
  const auto answer = peer.Hear();
  ASSERT_TRUE(answer);
  EXPECT_EQ(CmMessageType::kReject, answer->type);
  EXPECT_EQ(2, answer->private_length);
  rdma_destroy_id(seen.id);
}

TEST_F(CmHostile, RequestsThatMakeNoSense) {
  struct Case {
    const char* what;
    std::size_t at;
    std::uint8_t value;
  };
  static constexpr Case kCases[] = {
      {"magic", 0, 'x'},
      {"version 0", 5, 0},
      {"an earlier version", 5, 2},
      {"a later version", 5, 4},
      {"a version of the other byte order", 4, 3},
      {"type 0", 6, 0},
      {"type 6", 6, 6},
      {"type 255", 6, 255},
      {"datagrams, at a listener of connections", 7, 1},
      {"an unreliable connection, at a listener of reliable ones", 7, 2},
      {"XRC", 7, 3},
      {"no kind of queue pair", 7, 4},
      {"a queue pair number of more than 24 bits", 8, 1},
      {"neither with nor without a shared queue", 16, 2},
      {"flow control", 19, 2},
      {"retries of more than 3 bits", 20, 8},
      {"RNR retries of more than 3 bits", 21, 8},
      {"private data of more than 92 bytes", 22, 93},
      {"private data of 255 bytes", 22, 255},
      {"a reserved byte", 23, 1},
      {"another sender", 39, 99},
      {"another receiver", 55, 99},
      {"another number of the sender", 56, 0xfe},
      {"another number of the receiver", 58, 0xfe},
      {"reserved bytes", 63, 1},
      {"another ticket", 64, 0},
      {"a proof, where there is no secret", 328, 1},
  };
  for (const Case& bad : kCases) {
    const CmPeer peer = Dial();
    auto bytes = CmPeer::Bytes(peer.Message(CmMessageType::kRequest));
    // Numbers and tickets are what they happen to be.
    const bool same = bytes[bad.at] == std::byte{bad.value};
    bytes[bad.at] = std::byte{bad.value} ^ std::byte{same};
    peer.Say(bytes);
    EXPECT_TRUE(peer.Closed()) << bad.what;
    EXPECT_FALSE(HasEvent(server_channel_)) << bad.what;
  }
  NothingElseHappened();
}

TEST_F(CmHostile, AnswersToNoRequest) {
  for (const CmMessageType type : kAllTypes) {
    if (type == CmMessageType::kRequest) continue;
    const CmPeer peer = Dial();
    peer.Say(type);
    EXPECT_TRUE(peer.Closed()) << static_cast<int>(type);
    EXPECT_FALSE(HasEvent(server_channel_)) << static_cast<int>(type);
  }
  NothingElseHappened();
}

TEST_F(CmHostile, WhatFollowsARequestThatWasNotAnswered) {
  Script scripts[] = {SaysNoise(), Ends(), SaysHalf(CmMessageType::kReply)};
  std::vector<Script> all(std::begin(scripts), std::end(scripts));
  for (const CmMessageType type : kAllTypes) all.push_back(Says(type));
  for (const Script& script : all) {
    rdma_cm_id* id = nullptr;
    const CmPeer peer = Request(&id);
    script(peer);
    EXPECT_TRUE(peer.Closed());
    EXPECT_FALSE(HasEvent(server_channel_));
    // The program learns of it when it accepts, and it may refuse as well.
    rdma_conn_param answer{};
    EXPECT_EQ(0, rdma_accept(id, &answer));
    CmSeen seen;
    EXPECT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_UNREACHABLE, &seen));
    EXPECT_EQ(id, seen.id);
    EXPECT_NE(0, seen.status);
    EXPECT_EQ(0, rdma_destroy_id(id));
  }
  NothingElseHappened();
}

TEST_F(CmHostile, WhatFollowsAReply) {
  using enum CmMessageType;
  const struct {
    Script script;
    std::vector<rdma_cm_event_type> events;
  } cases[] = {
      {Says(kRequest), {RDMA_CM_EVENT_UNREACHABLE}},
      {Says(kReply), {RDMA_CM_EVENT_UNREACHABLE}},
      {Says(kDisconnect), {RDMA_CM_EVENT_UNREACHABLE}},
      {Says(kReject), {RDMA_CM_EVENT_REJECTED}},
      {SaysTwice(kReject, kReject), {RDMA_CM_EVENT_REJECTED}},
      {SaysTwice(kReject, kReadyToUse), {RDMA_CM_EVENT_REJECTED}},
      {SaysNoise(), {RDMA_CM_EVENT_UNREACHABLE}},
      {Ends(), {RDMA_CM_EVENT_UNREACHABLE}},
      {SaysHalf(kReadyToUse), {RDMA_CM_EVENT_UNREACHABLE}},
      {SaysTwice(kReadyToUse, kReadyToUse),
       {RDMA_CM_EVENT_ESTABLISHED, RDMA_CM_EVENT_DISCONNECTED}},
      {SaysTwice(kReadyToUse, kReject), {RDMA_CM_EVENT_ESTABLISHED, RDMA_CM_EVENT_DISCONNECTED}},
      {SaysTwice(kReadyToUse, kRequest), {RDMA_CM_EVENT_ESTABLISHED, RDMA_CM_EVENT_DISCONNECTED}},
      {SaysTwice(kReadyToUse, kReply), {RDMA_CM_EVENT_ESTABLISHED, RDMA_CM_EVENT_DISCONNECTED}},
      {SaysTwice(kReadyToUse, kDisconnect),
       {RDMA_CM_EVENT_ESTABLISHED, RDMA_CM_EVENT_DISCONNECTED}},
  };
  for (std::size_t i = 0; i < std::size(cases); ++i) {
    rdma_cm_id* id = nullptr;
    const CmPeer peer = Request(&id);
    rdma_conn_param answer{};
    ASSERT_EQ(0, rdma_accept(id, &answer));
    const auto reply = peer.Hear();
    ASSERT_TRUE(reply);
    EXPECT_EQ(CmMessageType::kReply, reply->type);
    cases[i].script(peer);
    EXPECT_TRUE(peer.Closed()) << "case " << i;
    for (const rdma_cm_event_type type : cases[i].events) {
      CmSeen seen;
      EXPECT_TRUE(Gets(server_channel_, type, &seen)) << "case " << i;
      EXPECT_EQ(id, seen.id);
    }
    EXPECT_FALSE(HasEvent(server_channel_)) << "case " << i;
    EXPECT_EQ(0, rdma_destroy_id(id));
  }
  NothingElseHappened();
}

// A server that is not one of librdmacm, and clients of it.
class CmHostileServer : public CmHostile {
 protected:
  void SetUp() override {
    CmHostile::SetUp();
    listening_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(0, listen(listening_.get(), 16));
    number_.emplace();
    descriptors_ = OpenDescriptors();
  }
  // A client that has made its request.
  CmPeer Ask(rdma_cm_id** client) {
    sockaddr_in own{};
    socklen_t size = sizeof own;
    getsockname(listening_.get(), reinterpret_cast<sockaddr*>(&own), &size);
    *client = NewClient(true, number_->number());
    rdma_conn_param parameters{};
    EXPECT_EQ(0, rdma_connect(*client, &parameters));
    const std::uint16_t asker = number_->Answer(ntohs(own.sin_port), kTicket);
    EXPECT_EQ(PortOf(*client), asker);
    CmPeer peer(UniqueFd(accept(listening_.get(), nullptr, nullptr)), number_->number(), asker);
    const auto request = peer.Hear();
    EXPECT_TRUE(request && request->type == CmMessageType::kRequest && request->ticket == kTicket);
    return peer;
  }
  static constexpr std::uint64_t kTicket = 0x1122334455667788;
  UniqueFd listening_;
  std::optional<CmNumber> number_;
};

TEST_F(CmHostileServer, WhatIsNoReply) {
  using enum CmMessageType;
  const auto changed = [](std::size_t at, std::uint8_t value) {
    return [=](const CmPeer& peer) {
      auto bytes = CmPeer::Bytes(peer.Message(kReply));
      bytes[at] = std::byte{value};
      peer.Say(bytes);
    };
  };
  constexpr auto kUnreachable = RDMA_CM_EVENT_UNREACHABLE;
  constexpr auto kRejected = RDMA_CM_EVENT_REJECTED;
  const struct {
    Script script;
    rdma_cm_event_type event;
  } cases[] = {
      {Ends(), kUnreachable},
      {SaysNoise(), kUnreachable},
      {SaysHalf(kReply), kUnreachable},
      {Says(kRequest), kUnreachable},
      {Says(kReadyToUse), kUnreachable},
      {Says(kDisconnect), kUnreachable},
      {changed(5, 9), kUnreachable},      // version
      {changed(7, 1), kUnreachable},      // datagrams
      {changed(7, 3), kUnreachable},      // XRC
      {changed(22, 197), kUnreachable},   // private data
      {changed(39, 99), kUnreachable},    // another host
      {changed(56, 0xfe), kUnreachable},  // another number
      {changed(58, 0xfe), kUnreachable},
      {changed(64, 1), kUnreachable},  // a ticket
      {Says(kReject), kRejected},
      {SaysTwice(kReject, kReject), kRejected},
      {SaysTwice(kReject, kReply), kRejected},
  };
  for (std::size_t i = 0; i < std::size(cases); ++i) {
    rdma_cm_id* client = nullptr;
    const CmPeer peer = Ask(&client);
    cases[i].script(peer);
    EXPECT_TRUE(Gets(client_channel_, cases[i].event)) << "case " << i;
    EXPECT_TRUE(peer.Closed()) << "case " << i;
    EXPECT_FALSE(HasEvent(client_channel_)) << "case " << i;
    Destroy(client);
  }
  NothingElseHappened();
}

TEST_F(CmHostileServer, WhateverFollowsAReplyIsTheEnd) {
  for (const CmMessageType second : kAllTypes) {
    rdma_cm_id* client = nullptr;
    const CmPeer peer = Ask(&client);
    peer.Say(CmMessageType::kReply);
    EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_ESTABLISHED));
    const auto ready = peer.Hear();
    ASSERT_TRUE(ready);
    EXPECT_EQ(CmMessageType::kReadyToUse, ready->type);
    peer.Say(second);
    EXPECT_TRUE(Gets(client_channel_, RDMA_CM_EVENT_DISCONNECTED)) << static_cast<int>(second);
    EXPECT_TRUE(peer.Closed());
    Destroy(client);
  }
  NothingElseHappened();
}

TEST_F(CmHostile, ConnectionsThatSayOneByteKeepNobodyOut) {
  std::vector<CmPeer> slow;
  for (int i = 0; i < 300; ++i) {
    slow.push_back(Dial());
    slow.back().Say(std::vector<std::byte>(1, std::byte{'n'}));
  }
  const CmPair pair = Connect();
  Exchange(pair);
  Exchange(good_);
  // The first had to make room, and no more than 128 are kept.
  EXPECT_TRUE(slow.front().Closed());
  EXPECT_LT(OpenDescriptors(), descriptors_ + slow.size() + 128 + 32);
  slow.clear();
  Destroy(pair.client);
  Destroy(pair.server);
  EXPECT_TRUE(DescriptorsFallTo(descriptors_));
}

TEST_F(CmHostile, RequestsThatNobodyTakesWaitOutside) {
  constexpr int kFew = 8;
  rdma_cm_id* listener = Listen(RDMA_PS_TCP, kFew);
  // As many as get in at once; the next would have to wait for the program.
  std::vector<CmPeer> peers;
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const CmNumber asker;
  const CmLookup answer = asker.Ask(PortOf(listener));
  to.sin_port = htons(answer.port);
  for (bool room = true; room && peers.size() < 400;) {
    UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    (void)connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to);
    pollfd connected{fd.get(), POLLOUT, 0};
    room = poll(&connected, 1, 500) == 1;
    if (!room) break;
    peers.emplace_back(std::move(fd), asker.number(), PortOf(listener), answer.ticket);
    peers.back().Say(CmMessageType::kRequest);
  }
  EXPECT_LE(static_cast<std::size_t>(kFew), peers.size());
  EXPECT_GT(static_cast<std::size_t>(128 + 3 * kFew), peers.size());
  Exchange(good_);
  const CmPair other = Connect();  // through the other listener, past what the program has not seen
  Exchange(other);
  // Those of a peer that has gone again are forgotten.
  peers.clear();
  const CmPair pair = Connect(listener);
  Exchange(pair);
  for (const CmPair& made : {other, pair}) {
    Destroy(made.client);
    Destroy(made.server);
  }
}

TEST_F(CmHostile, Noise) {
  for (unsigned seed = 1; seed <= 400; ++seed) {
    std::mt19937 random(seed);
    const CmPeer peer = Dial();
    std::vector<std::byte> noise(random() % 1000);
    for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
    // Half of it begins as a message, and some is a message but for a byte of what is checked.
    const auto good = CmPeer::Bytes(peer.Message(kAllTypes[seed % 5]));
    if (seed % 4 >= 2) noise.insert(noise.begin(), good.begin(), good.begin() + 8);
    if (seed % 4 == 3) {
      noise.assign(good.begin(), good.end());
      noise[random() % 8] ^= static_cast<std::byte>(1 << random() % 8 | 0x80);
    }
    peer.Say(noise);
    peer.Finish();
    ASSERT_TRUE(peer.Closed()) << "seed " << seed;
  }
  EXPECT_FALSE(HasEvent(server_channel_));
  NothingElseHappened();
}

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
// The address sanitizer keeps what is freed aside for a while, up to 256 MiB.
constexpr std::size_t kSlack = std::size_t{8 + (__has_feature(address_sanitizer) ? 256 : 0)} << 20;

TEST_F(CmHostile, AStormOfConnectionsLeavesNothingBehind) {
  const auto storm = [this] {
    for (int i = 0; i < 2000; ++i) {
      const CmPeer peer = Dial();
      if (i % 3 == 1) peer.Say(std::vector<std::byte>(17));
      if (i % 3 == 2) peer.Say(CmMessageType::kReject);
    }
  };
  storm();
  NothingElseHappened();
  const std::size_t before = ResidentBytes();
  for (int i = 0; i < 3; ++i) storm();
  NothingElseHappened();
  EXPECT_LT(ResidentBytes(), before + kSlack);
}

TEST_F(CmHostile, DatagramListenersHearOnlyOfDatagrams) {
  rdma_cm_id* listener = Listen(RDMA_PS_UDP, kBacklog);
  const std::uint16_t port = PortOf(listener);
  descriptors_ = OpenDescriptors();
  for (const CmMessageType type : kAllTypes) {
    for (const CmService service : {CmService::kReliable, CmService::kDatagram}) {
      if (type == CmMessageType::kRequest && service == CmService::kDatagram) continue;
      const CmPeer peer = CmPeer::DialDirectly(port);
      CmMessage message = peer.Message(type);
      message.service = service;
      peer.Say(CmPeer::Bytes(message));
      EXPECT_TRUE(peer.Closed()) << static_cast<int>(type);
    }
  }
  EXPECT_FALSE(HasEvent(server_channel_));
  CmPeer peer = CmPeer::DialDirectly(port);
  CmMessage message = peer.Message(CmMessageType::kRequest);
  message.service = CmService::kDatagram;
  peer.Say(CmPeer::Bytes(message));
  CmSeen seen;
  ASSERT_TRUE(Gets(server_channel_, RDMA_CM_EVENT_CONNECT_REQUEST, &seen));
  rdma_conn_param answer{};
  answer.qp_num = 77;
  EXPECT_EQ(0, rdma_accept(seen.id, &answer));
  const auto reply = peer.Hear();
  ASSERT_TRUE(reply);
  EXPECT_EQ(CmMessageType::kReply, reply->type);
  EXPECT_EQ(77u, reply->qpn);
  // There is no more to say, and nobody is told.
  peer.Say(CmPeer::Bytes(message));
  EXPECT_TRUE(peer.Closed());
  EXPECT_FALSE(HasEvent(server_channel_));
  EXPECT_EQ(0, rdma_destroy_id(seen.id));
  peer.Close();
  NothingElseHappened();
}

}  // namespace
}  // namespace oxmem::nex
