// Queue pairs that begin anew before anything went over them, while their peers do so too, or do
// not; and peers that make use of it.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "rdma/nex/wire.h"
#include "tests/e2e/nex/verbs/device.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {
namespace {

using Clock = std::chrono::steady_clock;

// A process of its own, in the last slot: a pair greets it, as its number is the larger one.
constexpr std::uint32_t kImpostorSlot = 1023;
constexpr std::uint32_t kImpostor = kImpostorSlot << 14 | 5;

class Recycle : public VerbsTest {
 protected:
  void Pair(ibv_qp_type type = IBV_QPT_RC) {
    options_.type = type;
    a_ = MakeQp(options_);
    b_ = MakeQp(options_);
    if (a_->qp_num > b_->qp_num) std::swap(a_, b_);  // a greets
    Connect(a_, b_, options_);
  }
  void ToState(ibv_qp* qp, ibv_qp_state state) {
    ibv_qp_attr attributes{};
    attributes.qp_state = state;
    ASSERT_EQ(0, ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
  }
  void Renew(ibv_qp* qp, const ibv_qp* peer) {
    ToState(qp, IBV_QPS_RESET);
    ToInit(qp, options_);
    ToRts(qp, AddressOf(peer), options_);
  }
  ibv_send_wr Write(std::uint64_t id) const {
    ibv_send_wr wr = Wr(id, IBV_WR_RDMA_WRITE);
    wr.wr.rdma = {At(4096), mr_->rkey};
    return wr;
  }
  ibv_wc_status StatusOfWrite(ibv_qp* from) {
    EXPECT_EQ(0, Send(from, Write(1), {Range(0, 8)}));
    const auto done = Wait(cq_, 1);
    return done.empty() ? IBV_WC_GENERAL_ERR : done[0].status;
  }
  void ExpectSends(ibv_qp* from, ibv_qp* to) {
    ASSERT_EQ(0, Receive(to, 7, {Range(4096, 64)}));
    ASSERT_EQ(0, Send(from, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  }

  QpOptions options_;
  ibv_qp* a_ = nullptr;
  ibv_qp* b_ = nullptr;
};

TEST_F(Recycle, BothSidesBeginAnewInAnyOrder) {
  for (int round = 0; round < 20; ++round) {
    Pair();
    ibv_qp* first = round % 2 == 0 ? a_ : b_;
    ibv_qp* second = round % 2 == 0 ? b_ : a_;
    Renew(first, second);
    Renew(second, first);
    EXPECT_EQ(IBV_WC_SUCCESS, StatusOfWrite(round % 4 < 2 ? a_ : b_)) << round;
  }
}

TEST_F(Recycle, BothSidesBeginAnewAtOnce) {
  for (int round = 0; round < 30; ++round) {
    Pair();
    const bool wrong = round % 3 == 0;
    if (wrong) {
      ASSERT_EQ(0, Send(a_, Write(1), {{At(0), 8, 0}}));
    }
    std::thread other([this] { Renew(b_, a_); });
    if (wrong) {
      EXPECT_EQ(IBV_WC_LOC_PROT_ERR, Wait(cq_, 1).at(0).status);
    }
    Renew(a_, b_);
    other.join();
    EXPECT_EQ(IBV_WC_SUCCESS, StatusOfWrite(round % 2 == 0 ? a_ : b_)) << round;
  }
}

TEST_F(Recycle, OneSideBeginsAnewAndTheOtherDoesNotNotice) {
  for (int round = 0; round < 20; ++round) {
    Pair();
    const bool greets = round % 2 == 0;
    for (int again = 0; again <= round % 3; ++again) {
      Renew(greets ? a_ : b_, greets ? b_ : a_);
    }
    EXPECT_EQ(IBV_WC_SUCCESS, StatusOfWrite(round % 4 < 2 ? a_ : b_)) << round;
    ExpectSends(a_, b_);
    ExpectSends(b_, a_);
  }
}

TEST_F(Recycle, ARequestOfItsOwnThatWasWrongIsNotSaidToThePeer) {
  for (int round = 0; round < 8; ++round) {
    Pair();
    ibv_qp* wrong = round % 2 == 0 ? a_ : b_;
    ibv_qp* other = round % 2 == 0 ? b_ : a_;
    ASSERT_EQ(0, Send(wrong, Write(1), {{At(0), 8, 0}}));
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, Wait(cq_, 1).at(0).status);
    if (round % 4 < 2) Renew(other, wrong);
    Renew(wrong, other);
    EXPECT_EQ(IBV_WC_SUCCESS, StatusOfWrite(wrong)) << round;
  }
}

TEST_F(Recycle, UnreliablePairsBeginAnewToo) {
  Pair(IBV_QPT_UC);
  Renew(a_, b_);
  ExpectSends(b_, a_);
  Pair(IBV_QPT_UC);
  Renew(b_, a_);
  ExpectSends(a_, b_);
}

TEST_F(Recycle, ExtendedPairsBeginAnewToo) {
  ibv_xrcd* xrcd = OpenXrcd();
  ibv_srq* srq = MakeXrcQueue(xrcd, cq_);
  for (const bool target_first : {true, false}) {
    QpOptions sends, receives;
    sends.type = IBV_QPT_XRC_SEND;
    receives.type = IBV_QPT_XRC_RECV;
    ibv_qp* target = MakeXrcTarget(xrcd);
    ibv_qp* sender = MakeQp(sends);
    ToInit(sender, sends);
    ToRts(sender, AddressOf(target), sends);
    ToInit(target, receives);
    ToRts(target, AddressOf(sender), receives);
    options_ = target_first ? receives : sends;
    Renew(target_first ? target : sender, target_first ? sender : target);
    ibv_send_wr wr = Wr(1, IBV_WR_SEND);
    ASSERT_EQ(0, ibv_get_srq_num(srq, &wr.qp_type.xrc.remote_srqn));
    ASSERT_EQ(0, Receive(srq, 2, {Range(4096, 64)}));
    ASSERT_EQ(0, Send(sender, wr, {Range(0, 64)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  }
  for (ibv_qp* qp : qps_) ASSERT_EQ(0, ibv_destroy_qp(qp));
  qps_.clear();
  ASSERT_EQ(0, ibv_destroy_srq(srq));
  ASSERT_EQ(0, ibv_close_xrcd(xrcd));
}

// On a device the numbers of the packets would not fit any more.
TEST_F(Recycle, APairOverWhichSomethingWentIsLost) {
  for (const bool writes : {true, false}) {
    for (const bool greets : {true, false}) {
      Pair();
      ibv_qp* renewed = greets ? a_ : b_;
      ibv_qp* other = greets ? b_ : a_;
      if (writes) {
        EXPECT_EQ(IBV_WC_SUCCESS, StatusOfWrite(renewed));
      } else {
        ExpectSends(renewed, other);
      }
      Renew(renewed, other);
      EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, StatusOfWrite(other)) << writes << greets;
    }
  }
}

TEST_F(Recycle, APeerThatIsDestroyedIsMissedAsOneThatNeverCame) {
  options_.timeout = 10;
  options_.retry_count = 1;
  Pair();
  EXPECT_EQ(0, ibv_destroy_qp(b_));
  qps_.erase(std::find(qps_.begin(), qps_.end(), b_));
  const auto begin = Clock::now();
  EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, StatusOfWrite(a_));
  EXPECT_LE(std::chrono::milliseconds(33), Clock::now() - begin);  // 2 retries of 4 * 4.2 ms
}

class BadPeer : public Recycle {
 protected:
  void SetUp() override {
    Recycle::SetUp();
    listener_.Reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    const int one = 1;
    setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const sockaddr_in here = Port(kImpostorSlot);
    ASSERT_EQ(0, bind(listener_.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here));
    ASSERT_EQ(0, listen(listener_.get(), 64));
  }
  static sockaddr_in Port(std::uint32_t slot) {
    sockaddr_in port{};
    port.sin_family = AF_INET;
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    port.sin_port =
        htons(static_cast<std::uint16_t>(std::stoi(getenv("NEX_PORT")) + static_cast<int>(slot)));
    return port;
  }
  ibv_qp* Victim(std::uint32_t peer) {
    ibv_qp* qp = MakeQp(options_);
    ToInit(qp, options_);
    QpAddress impostor = AddressOf(qp);
    impostor.qpn = peer;
    ToRts(qp, impostor, options_);
    return qp;
  }
  static bool SayAll(const UniqueFd& fd, const Greeting& greeting, int flags = 0) {
    std::array<std::byte, kGreetingBytes> bytes;
    EncodeGreeting(greeting, bytes);
    return send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | flags) ==
           static_cast<ssize_t>(bytes.size());
  }
  static std::optional<Greeting> Hear(const UniqueFd& fd) {
    std::array<std::byte, kGreetingBytes> bytes;
    if (recv(fd.get(), bytes.data(), bytes.size(), MSG_WAITALL) !=
        static_cast<ssize_t>(bytes.size())) {
      return std::nullopt;
    }
    return DecodeGreeting(bytes);
  }
  // Takes the next greeting that comes until then, answers it as is right, and closes.
  bool WelcomeAndGo(Clock::time_point until) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
    pollfd readable{listener_.get(), POLLIN, 0};
    if (left.count() <= 0 || poll(&readable, 1, static_cast<int>(left.count())) != 1) return false;
    const UniqueFd fd(accept4(listener_.get(), nullptr, nullptr, 0));
    const auto hello = Hear(fd);
    if (!hello) return true;
    Greeting welcome;
    welcome.type = GreetingType::kWelcome;
    welcome.source_qpn = hello->destination_qpn;
    welcome.destination_qpn = hello->source_qpn;
    welcome.nonce = 7;
    welcome.peer_nonce = hello->nonce;
    // With its end in one piece: no request can get out before it is seen.
    EXPECT_TRUE(SayAll(fd, welcome, MSG_MORE));
    EXPECT_EQ(0, shutdown(fd.get(), SHUT_WR));
    EXPECT_TRUE(Hear(fd));  // so it was taken for the peer
    return true;
  }

  UniqueFd listener_;
};

TEST_F(BadPeer, WhoComesAndGoesForEverIsAskedLessAndLessAndRequestsEndInTime) {
  options_.timeout = 14;  // 2 retries of 4 * 67 ms
  options_.retry_count = 1;
  ibv_qp* victim = Victim(kImpostor);
  const auto begin = Clock::now();
  int greetings = 0;
  while (WelcomeAndGo(begin + std::chrono::milliseconds(700))) ++greetings;
  EXPECT_LE(3, greetings);
  EXPECT_GE(8, greetings);  // after 0, 5, 15, 35, 75, 155, 315 and 635 ms
  // The next one would come after half a second, but there is a request.
  const auto posted = Clock::now();
  ASSERT_EQ(0, Send(victim, Write(1), {Range(0, 8)}));
  EXPECT_TRUE(WelcomeAndGo(posted + std::chrono::milliseconds(400)));
  greetings = 1;
  ibv_wc wc{};
  while (ibv_poll_cq(cq_, 1, &wc) == 0 && Clock::now() < posted + std::chrono::seconds(10)) {
    greetings += WelcomeAndGo(Clock::now() + std::chrono::milliseconds(1)) ? 1 : 0;
  }
  EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, wc.status);
  EXPECT_LE(std::chrono::milliseconds(536), Clock::now() - posted);
  EXPECT_GE(8, greetings);
}

TEST_F(BadPeer, AStrangerThatGreetsDoesNotEndAStreamOverWhichNothingWent) {
  Pair();
  for (const bool confirms : {false, true}) {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    const sockaddr_in there = Port(b_->qp_num >> 14);
    ASSERT_EQ(0, connect(fd.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there));
    Greeting greeting;
    greeting.source_qpn = a_->qp_num;
    greeting.destination_qpn = b_->qp_num;
    greeting.nonce = 1;
    EXPECT_TRUE(SayAll(fd, greeting));
    greeting.type = GreetingType::kConfirm;
    if (confirms) SayAll(fd, greeting);
    // Either the pair is connected already, or it does not take this for an answer.
    const auto welcome = Hear(fd);
    EXPECT_TRUE(!welcome || welcome->type == GreetingType::kWelcome);
    ExpectSends(a_, b_);
  }
}

TEST_F(BadPeer, AGreetingThatEndsUnfinishedGivesAPairNoMoreTime) {
  options_.timeout = 11;
  options_.retry_count = 3;  // 4 retries of 4 * 8.4 ms
  ibv_qp* victim = Victim(1);
  ASSERT_EQ(0, Send(victim, Write(1), {Range(0, 8)}));
  const auto begin = Clock::now();
  ibv_wc wc{};
  while (ibv_poll_cq(cq_, 1, &wc) == 0 && Clock::now() < begin + std::chrono::seconds(10)) {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    const sockaddr_in there = Port(victim->qp_num >> 14);
    ASSERT_EQ(0, connect(fd.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there));
    Greeting greeting;
    greeting.source_qpn = 1;
    greeting.destination_qpn = victim->qp_num;
    greeting.nonce = 1;
    EXPECT_TRUE(SayAll(fd, greeting));
  }
  EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, wc.status);
  EXPECT_GE(std::chrono::seconds(2), Clock::now() - begin);
}

}  // namespace
}  // namespace oxmem::nex
