// Peers that mean harm: whatever they say to the listening port closes their own connection and
// touches nothing else.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>

#include "rdma/nex/wire.h"
#include "tests/e2e/nex/verbs/device.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kSlotShift = 14;
constexpr std::uint32_t kImpostor =
    1;  // never that of a real queue pair; it connects, being smaller

// Of memory that the device is writing to.
__attribute__((no_sanitize("thread"))) std::byte Peek(const volatile std::byte* at) { return *at; }

class Hostile : public VerbsTest {
 protected:
  void SetUp() override {
    VerbsTest::SetUp();
    a_ = MakeQp({});
    b_ = MakeQp({});
    Connect(a_, b_, {});
    Exchange();
  }
  // The honest pair still works.
  void Exchange() {
    ASSERT_EQ(0, Receive(b_, 7, {Range(4096, 64)}));
    ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
  }
  sockaddr_in Port() const {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto slot = static_cast<int>(a_->qp_num >> kSlotShift);
    to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(getenv("NEX_PORT")) + slot));
    return to;
  }
  UniqueFd Dial(int type = SOCK_STREAM) const {
    UniqueFd fd(socket(AF_INET, type, 0));
    const sockaddr_in to = Port();
    EXPECT_EQ(0, connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to));
    return fd;
  }
  static void Say(const UniqueFd& fd, std::span<const std::byte> bytes) {
    // The other side may have closed already: that is what is wanted.
    [[maybe_unused]] const ssize_t sent = send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }
  static bool Closed(const UniqueFd& fd) {
    std::array<std::byte, 256> bytes;
    for (;;) {
      pollfd readable{fd.get(), POLLIN, 0};
      if (poll(&readable, 1, 20000) != 1) return false;
      if (recv(fd.get(), bytes.data(), bytes.size(), 0) <= 0) return true;
    }
  }
  // The answer is a NAK; who was refused closes by himself.
  static bool Denied(const UniqueFd& fd) {
    std::array<std::byte, kHeaderBytes> bytes;
    for (;;) {
      pollfd readable{fd.get(), POLLIN, 0};
      if (poll(&readable, 1, 20000) != 1) return false;
      if (recv(fd.get(), bytes.data(), bytes.size(), MSG_WAITALL) <= 0) return false;
      const auto header = DecodeHeader(bytes);
      if (!header) return false;
      if (header->type == FrameType::kNak) return true;
    }
  }
  static std::array<std::byte, kGreetingBytes> Bytes(const Greeting& greeting) {
    std::array<std::byte, kGreetingBytes> bytes;
    EncodeGreeting(greeting, bytes);
    return bytes;
  }
  static std::array<std::byte, kHeaderBytes> Bytes(const FrameHeader& header) {
    std::array<std::byte, kHeaderBytes> bytes;
    EncodeHeader(header, bytes);
    return bytes;
  }
  // A queue pair that takes the impostor for its peer, and the connection of the two.
  ibv_qp* Victim() {
    ibv_qp* qp = MakeQp({});
    ToInit(qp, {});
    QpAddress impostor = AddressOf(qp);
    impostor.qpn = kImpostor;
    ToRts(qp, impostor, {});
    return qp;
  }
  UniqueFd Greet(const ibv_qp* victim) {
    UniqueFd fd = Dial();
    Greeting greeting;
    greeting.source_qpn = kImpostor;
    greeting.destination_qpn = victim->qp_num;
    greeting.nonce = 77;
    Say(fd, Bytes(greeting));
    std::array<std::byte, kGreetingBytes> answer;
    EXPECT_EQ(static_cast<ssize_t>(answer.size()),
              recv(fd.get(), answer.data(), answer.size(), MSG_WAITALL));
    const auto welcome = DecodeGreeting(answer);
    EXPECT_TRUE(welcome);
    greeting.type = GreetingType::kConfirm;
    greeting.peer_nonce = welcome ? welcome->nonce : 0;
    Say(fd, Bytes(greeting));
    return fd;
  }

  ibv_qp* a_ = nullptr;
  ibv_qp* b_ = nullptr;
};

TEST_F(Hostile, GreetingsThatMakeNoSenseAreClosed) {
  Greeting good;
  good.source_qpn = kImpostor;
  good.destination_qpn = b_->qp_num;
  good.nonce = 1;
  const auto changed = [&](std::size_t at, int value) {
    auto bytes = Bytes(good);
    bytes[at] = static_cast<std::byte>(value);
    return bytes;
  };
  Greeting nobody = good, impossible = good, of_the_peer = good;
  nobody.destination_qpn = b_->qp_num ^ 0x1fff;
  impossible.destination_qpn = 0xffffff;
  of_the_peer.source_qpn = a_->qp_num;  // who is connected already
  const std::array<std::byte, kGreetingBytes> cases[] = {
      changed(0, 'x'),    // magic
      changed(5, 99),     // version
      changed(6, 3),      // a confirm without a hello
      changed(6, 0),      // no type at all
      changed(63, 1),     // what has to be 0
      Bytes(good),        // not the peer
      Bytes(nobody),      // no such queue pair
      Bytes(impossible),  // of another process
      Bytes(of_the_peer),
  };
  for (const auto& bytes : cases) {
    const UniqueFd fd = Dial();
    Say(fd, bytes);
    EXPECT_TRUE(Closed(fd));
    Exchange();
  }
}

TEST_F(Hostile, NoiseIsClosed) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const UniqueFd fd = Dial();
    std::vector<std::byte> noise(kGreetingBytes + random() % 500);
    for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
    Say(fd, noise);
    EXPECT_TRUE(round % 2 == 1 || Closed(fd));
  }
  Exchange();
}

TEST_F(Hostile, GreetingsThatAreNeverFinishedKeepNobodyOut) {
  // More than may wait at once, each with half a greeting, and they stay.
  std::vector<UniqueFd> open;
  Greeting greeting;
  const auto bytes = Bytes(greeting);
  for (int i = 0; i < 300; ++i) {
    open.push_back(Dial());
    Say(open.back(), std::span(bytes).first(kGreetingBytes / 2));
  }
  Exchange();
  ibv_qp* c = MakeQp({});
  ibv_qp* d = MakeQp({});
  Connect(c, d, {});
  ASSERT_EQ(0, Receive(d, 7, {Range(4096, 64)}));
  ASSERT_EQ(0, Send(c, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  // The first of them had to make room.
  EXPECT_TRUE(Closed(open.front()));
}

TEST_F(Hostile, WhoGreetsAndNeverConfirmsDoesNotKeepThePeerOut) {
  ibv_qp* c = MakeQp({});
  ibv_qp* d = MakeQp({});
  if (c->qp_num > d->qp_num) std::swap(c, d);  // c will connect
  ToInit(c, {});
  ToInit(d, {});
  ToRts(d, AddressOf(c), {});
  // Somebody knows the numbers, and is there first.
  const UniqueFd fd = Dial();
  Greeting greeting;
  greeting.source_qpn = c->qp_num;
  greeting.destination_qpn = d->qp_num;
  greeting.nonce = 1;
  Say(fd, Bytes(greeting));
  std::array<std::byte, kGreetingBytes> welcome;
  ASSERT_EQ(static_cast<ssize_t>(welcome.size()),
            recv(fd.get(), welcome.data(), welcome.size(), MSG_WAITALL));
  ToRts(c, AddressOf(d), {});
  ASSERT_EQ(0, Receive(d, 7, {Range(4096, 64)}));
  ASSERT_EQ(0, Send(c, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  EXPECT_TRUE(Closed(fd));
}

TEST_F(Hostile, StrangersThatGreetBeforeAQueuePairIsReadyDoNotKeepThePeerOut) {
  ibv_qp* c = MakeQp({});
  ibv_qp* d = MakeQp({});
  if (c->qp_num > d->qp_num) std::swap(c, d);  // c will connect
  ToInit(c, {});
  ToInit(d, {});
  ToRts(c, AddressOf(d), {});
  Greeting greeting;
  greeting.source_qpn = kImpostor;
  greeting.destination_qpn = d->qp_num;
  std::vector<UniqueFd> strangers;
  for (int i = 0; i < 100; ++i) {
    UniqueFd fd = Dial();
    Say(fd, Bytes(greeting));
    if (i % 2 == 0) strangers.push_back(std::move(fd));
  }
  // More than are kept: the last are refused, so all of them were looked at.
  EXPECT_TRUE(Closed(strangers.back()));
  ToRts(d, AddressOf(c), {});
  ASSERT_EQ(0, Receive(d, 7, {Range(4096, 64)}));
  ASSERT_EQ(0, Send(c, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
}

TEST_F(Hostile, TheNumberOfThePeerIsNotEnoughFromAnotherAddress) {
  const ibv_qp* victim = Victim();
  UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in from{};
  from.sin_family = AF_INET;
  from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 98);
  ASSERT_EQ(0, bind(fd.get(), reinterpret_cast<const sockaddr*>(&from), sizeof from));
  const sockaddr_in to = Port();
  ASSERT_EQ(0, connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to));
  Greeting greeting;
  greeting.source_qpn = kImpostor;
  greeting.destination_qpn = victim->qp_num;
  greeting.nonce = 1;
  Say(fd, Bytes(greeting));
  std::array<std::byte, 1> byte;
  EXPECT_GE(0, recv(fd.get(), byte.data(), byte.size(), 0));
  Greet(victim);
}

TEST_F(Hostile, AConfirmWithoutTheNonceOpensNothing) {
  const ibv_qp* victim = Victim();
  const UniqueFd fd = Dial();
  Greeting greeting;
  greeting.source_qpn = kImpostor;
  greeting.destination_qpn = victim->qp_num;
  greeting.nonce = 1;
  Say(fd, Bytes(greeting));
  greeting.type = GreetingType::kConfirm;
  greeting.peer_nonce = 2;
  Say(fd, Bytes(greeting));
  EXPECT_TRUE(Closed(fd));
  EXPECT_EQ(IBV_QPS_RTS, victim->state);
}

// Frames after a right greeting, each from a peer of its own.
TEST_F(Hostile, FramesThatMakeNoSenseCloseTheirConnection) {
  FrameHeader late, early, huge, answer, credits;
  late.sequence = 5;
  answer.type = FrameType::kReadResponse;
  answer.length = 1 << 20;
  early.type = FrameType::kAck;
  huge.length = kMaxMessageBytes;
  credits.type = FrameType::kReceiverNotReady;
  auto too_long = Bytes(huge);
  too_long[8] = std::byte{0xff};
  auto unknown = Bytes(late);
  unknown[0] = std::byte{200};
  const std::array<std::byte, kHeaderBytes> cases[] = {Bytes(late),    Bytes(answer), Bytes(early),
                                                       Bytes(credits), too_long,      unknown};
  for (const auto& bytes : cases) {
    ibv_qp* victim = Victim();
    ASSERT_EQ(0, Receive(victim, 7, {Range(8192, 64)}));
    const UniqueFd fd = Greet(victim);
    Say(fd, bytes);
    EXPECT_TRUE(Closed(fd));
    Exchange();
  }
}

TEST_F(Hostile, GuessedKeysTouchNothing) {
  std::mt19937 random(2);
  const std::vector<std::byte> before = buffer_;
  for (int guess = 0; guess < 50; ++guess) {
    ibv_qp* victim = Victim();
    const UniqueFd fd = Greet(victim);
    FrameHeader header;
    header.type = FrameType::kWrite;
    header.length = 64;
    header.key = static_cast<std::uint32_t>(random());
    header.address = At(0);
    Say(fd, Bytes(header));
    Say(fd, std::vector<std::byte>(64, std::byte{0xee}));
    EXPECT_TRUE(Denied(fd));
    const auto event = NextEvent();
    ASSERT_TRUE(event);
    EXPECT_EQ(IBV_EVENT_QP_ACCESS_ERR, event->event_type);
    EXPECT_EQ(victim, event->element.qp);
  }
  EXPECT_TRUE(before == buffer_);
  Exchange();
}

TEST_F(Hostile, AMessageThatIsLongerThanItsReceiveTouchesNothingBehind) {
  ibv_qp* victim = Victim();
  ASSERT_EQ(0, Receive(victim, 9, {Range(8192, 64)}));
  const UniqueFd fd = Greet(victim);
  FrameHeader header;
  header.length = 4096;
  Say(fd, Bytes(header));
  Say(fd, std::vector<std::byte>(4096, std::byte{0xee}));
  EXPECT_TRUE(Denied(fd));
  const auto done = Wait(cq_, 1);
  EXPECT_EQ(IBV_WC_LOC_LEN_ERR, done.at(0).status);
  EXPECT_EQ(std::byte{0}, buffer_[8192 + 64]);
  Exchange();
}

TEST_F(Hostile, AHalfMessageThatEndsIsAReceiveThatFailed) {
  ibv_qp* victim = Victim();
  ASSERT_EQ(0, Receive(victim, 9, {Range(8192, 4096)}));
  const UniqueFd fd = Greet(victim);
  FrameHeader header;
  header.length = 4096;
  Say(fd, Bytes(header));
  Say(fd, std::vector<std::byte>(100));
  ASSERT_EQ(0, shutdown(fd.get(), SHUT_WR));
  EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, Wait(cq_, 1).at(0).status);
  Exchange();
}

TEST_F(Hostile, AHalfMessageThatIsFlushedGivesAnXrcReceiveBack) {
  ibv_xrcd* xrcd = OpenXrcd();
  ibv_cq* cq = ibv_create_cq(context_, 16, nullptr, nullptr, 0);
  ibv_srq* srq = MakeXrcQueue(xrcd, cq);
  ibv_qp* target = MakeXrcTarget(xrcd);
  FrameHeader header;
  header.length = 4096;
  ASSERT_EQ(0, ibv_get_srq_num(srq, &header.srq_number));
  ASSERT_EQ(0, Receive(srq, 9, {Range(8192, 4096)}));
  QpOptions options;
  options.type = IBV_QPT_XRC_RECV;
  ToInit(target, options);
  QpAddress impostor = AddressOf(target);
  impostor.qpn = kImpostor;
  ToRts(target, impostor, options);
  {
    const UniqueFd fd = Greet(target);
    Say(fd, Bytes(header));
    // The first bytes are in place, so the receive is taken.
    Say(fd, std::vector<std::byte>(100, std::byte{0xee}));
    while (Peek(&buffer_[8192 + 99]) != std::byte{0xee}) poll(nullptr, 0, 1);
    ibv_qp_attr failed{};
    failed.qp_state = IBV_QPS_ERR;
    ASSERT_EQ(0, ibv_modify_qp(target, &failed, IBV_QP_STATE));
    const auto done = Wait(cq, 1);
    EXPECT_EQ(9u, done.at(0).wr_id);
    EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, done.at(0).status);
  }
  ASSERT_EQ(0, ibv_destroy_qp(target));
  qps_.pop_back();
  ASSERT_EQ(0, ibv_destroy_srq(srq));
  ASSERT_EQ(0, ibv_close_xrcd(xrcd));
  ASSERT_EQ(0, ibv_destroy_cq(cq));
  Exchange();
}

TEST_F(Hostile, APeerWhoseHostIsGoneIsLostAndOneThatIsSilentIsNot) {
  ibv_send_wr wr = Wr(1, IBV_WR_RDMA_READ);
  wr.wr.rdma = {At(0), mr_->rkey};
  const auto asked = [&](ibv_qp* qp, std::uint64_t id) {
    UniqueFd fd = Greet(qp);
    wr.wr_id = id;
    EXPECT_EQ(0, Send(qp, wr, {Range(0, 8)}));
    std::array<std::byte, kHeaderBytes> bytes;
    for (;;) {
      EXPECT_EQ(static_cast<ssize_t>(bytes.size()),
                recv(fd.get(), bytes.data(), bytes.size(), MSG_WAITALL));
      const auto header = DecodeHeader(bytes);
      if (!header || header->type == FrameType::kRead) return fd;
    }
  };
  const UniqueFd silent = asked(Victim(), 1);
  UniqueFd gone = asked(Victim(), 2);
  // Its end of the connection goes without a word, and with everything acknowledged.
  const int on = 1;
  ASSERT_EQ(0, setsockopt(gone.get(), IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on));
  if (setsockopt(gone.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) != 0) {
    GTEST_SKIP() << "needs CAP_NET_ADMIN";
  }
  gone.Reset();
  const auto done = Wait(cq_, 1);
  EXPECT_EQ(2u, done.at(0).wr_id);
  EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, done.at(0).status);
  // The host of the silent one answered as often.
  Exchange();
  FrameHeader answer;
  answer.type = FrameType::kReadResponse;
  answer.length = 8;
  Say(silent, Bytes(answer));
  Say(silent, std::vector<std::byte>(8));
  EXPECT_EQ(IBV_WC_SUCCESS, Wait(cq_, 1).at(0).status);
}

TEST_F(Hostile, AStormOfConnectionsPasses) {
  for (int i = 0; i < 3000; ++i) Dial();
  Exchange();
  ibv_qp* c = MakeQp({});
  ibv_qp* d = MakeQp({});
  Connect(c, d, {});
  ASSERT_EQ(0, Receive(d, 7, {Range(4096, 64)}));
  ASSERT_EQ(0, Send(c, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
}

TEST_F(Hostile, PacketsOfNoiseReachNobody) {
  QpOptions options;
  options.type = IBV_QPT_UD;
  ibv_qp* qp = MakeQp(options);
  ToInit(qp, options);
  ToRts(qp, {}, options);
  ASSERT_EQ(0, Receive(qp, 9, {Range(8192, 5000)}));
  const UniqueFd fd = Dial(SOCK_DGRAM);
  std::mt19937 random(3);
  DatagramHeader header;
  header.destination_qpn = qp->qp_num;
  header.queue_key = kTestQueueKey;
  std::array<std::byte, kDatagramHeaderBytes> good;
  EncodeDatagram(header, good);
  for (int i = 0; i < 500; ++i) {
    std::vector<std::byte> packet(random() % 200);
    for (std::byte& byte : packet) byte = static_cast<std::byte>(random());
    // Half of them begin rightly but for one bit of what is checked.
    if (i % 2 == 0) {
      packet.assign(good.begin(), good.end());
      const std::size_t at = std::array<std::size_t, 4>{0, 4, 7, 19}[random() % 4];
      packet[at] ^= static_cast<std::byte>(1 << random() % 8);
    }
    Say(fd, packet);
  }
  Say(fd, std::vector<std::byte>(9000, std::byte{1}));
  // The first that is right is the first to arrive.
  Say(fd, good);
  const auto done = Wait(cq_, 1);
  EXPECT_EQ(9u, done.at(0).wr_id);
  EXPECT_EQ(40u, done.at(0).byte_len);
  Exchange();
}

}  // namespace
}  // namespace oxmem::nex
