// kill -9 of the peer's process at the worst moments: the other side learns of it in time.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSoon = std::chrono::seconds(5);

// Of memory that the device is writing to. Programs do that, and the thread sanitizer is right that
// nothing orders it.
__attribute__((no_sanitize("thread"))) std::byte Peek(const volatile std::byte* at) { return *at; }
__attribute__((no_sanitize("thread"))) void Poke(volatile std::byte* at, std::byte value) {
  *at = value;
}

// What the two processes tell each other through pipes.
struct Card {
  QpAddress address;
  std::uint64_t memory = 0;
  std::uint32_t key = 0;
};

class Death : public VerbsTest, public testing::WithParamInterface<const char*> {
 protected:
  static constexpr std::uint32_t kPiece = 1 << 18;

  void SetUp() override {
    setenv("NEX_DIRECT", GetParam(), 1);
    ASSERT_EQ(0, pipe(to_child_));
    ASSERT_EQ(0, pipe(to_parent_));
    child_ = fork();
    if (child_ == 0) Child();
    VerbsTest::SetUp();
    options_.timeout = 10;
    options_.retry_count = 1;
    qp_ = MakeQp(options_);
    ToInit(qp_, options_);
    own_ = {AddressOf(qp_), At(0), mr_->rkey};
    ASSERT_EQ(static_cast<ssize_t>(sizeof own_), write(to_child_[1], &own_, sizeof own_));
    ASSERT_EQ(static_cast<ssize_t>(sizeof peer_), read(to_parent_[0], &peer_, sizeof peer_));
  }
  void TearDown() override {
    Kill();
    VerbsTest::TearDown();
    for (const int fd : {to_child_[0], to_child_[1], to_parent_[0], to_parent_[1]}) close(fd);
  }
  void Kill() {
    if (child_ <= 0) return;
    kill(child_, SIGKILL);
    int status;
    waitpid(child_, &status, 0);
    child_ = -1;
  }
  // The other process: gives its memory away and does as it is told, until it is killed.
  [[noreturn]] void Child() {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    VerbsTest::SetUp();
    ibv_qp* qp = MakeQp(options_);
    ToInit(qp, options_);
    const Card own{AddressOf(qp), At(0), mr_->rkey};
    Card parent;
    char order = 0;
    if (read(to_child_[0], &parent, sizeof parent) != sizeof parent) _exit(1);
    if (write(to_parent_[1], &own, sizeof own) != sizeof own) _exit(1);
    while (read(to_child_[0], &order, 1) == 1) {
      if (order == 'r') ToRts(qp, parent.address, options_);
      if (order == 'w') {
        // Writes to the parent for ever.
        for (std::uint64_t i = 0;; ++i) {
          ibv_send_wr wr = Wr(i, IBV_WR_RDMA_WRITE);
          wr.wr.rdma = {parent.memory, parent.key};
          if (Send(qp, wr, {Range(0, kPiece)}) == 0) Wait(cq_, 1);
        }
      }
      if (write(to_parent_[1], &order, 1) != 1) break;
    }
    _exit(0);
  }
  void Order(char what, bool answered = true) {
    char answer = 0;
    ASSERT_EQ(1, write(to_child_[1], &what, 1));
    if (!answered) return;
    ASSERT_EQ(1, read(to_parent_[0], &answer, 1));
  }
  int Read(std::uint64_t id, std::uint32_t length) {
    ibv_send_wr wr = Wr(id, IBV_WR_RDMA_READ);
    wr.wr.rdma = {peer_.memory, peer_.key};
    return Send(qp_, wr, {Range(0, length)});
  }
  // Successes first, then one retry that ran out, then what was behind it.
  static void CheckEnd(const std::vector<ibv_wc>& done) {
    std::size_t i = 0;
    while (i < done.size() && done[i].status == IBV_WC_SUCCESS) ++i;
    ASSERT_LT(i, done.size()) << "nothing failed";
    EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, done[i].status);
    for (++i; i < done.size(); ++i) EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, done[i].status);
    for (std::size_t k = 0; k < done.size(); ++k) EXPECT_EQ(k, done[k].wr_id);
  }

  int to_child_[2] = {-1, -1};
  int to_parent_[2] = {-1, -1};
  pid_t child_ = -1;
  QpOptions options_;
  Card own_, peer_;
  ibv_qp* qp_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(SameHost, Death, testing::Values("1"));
INSTANTIATE_TEST_SUITE_P(Tcp, Death, testing::Values("0"));

TEST_P(Death, WithManyReadsUnderWay) {
  Order('r');
  ToRts(qp_, peer_.address, options_);
  ASSERT_EQ(0, Read(0, 8));
  ASSERT_EQ(1u, Wait(cq_, 1).size());
  // Stopped first: over TCP nothing is answered, so all 64 are still under way when it dies.
  kill(child_, SIGSTOP);
  std::uint64_t posted = 0;
  while (posted < 64 && Read(posted, kPiece) == 0) ++posted;
  ASSERT_EQ(64u, posted);
  Kill();
  const auto start = Clock::now();
  ibv_send_wr last = Wr(64, IBV_WR_SEND);
  std::vector<ibv_wc> done;
  if (std::string(GetParam()) == "1") {
    // The copies were done without it; the next request finds nobody.
    for (const ibv_wc& wc : Wait(cq_, 64)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
    last.wr_id = 0;
    ASSERT_EQ(0, Send(qp_, last, {Range(0, 8)}));
    done = Wait(cq_, 1);
  } else {
    done = Wait(cq_, 64);
  }
  CheckEnd(done);
  EXPECT_GT(kSoon, Clock::now() - start);
}

TEST_P(Death, WhileCopyingFromIt) {
  Order('r');
  ToRts(qp_, peer_.address, options_);
  std::vector<ibv_wc> done;
  const auto start = Clock::now();
  for (std::uint64_t i = 0;; ++i) {
    if (i == 100) {
      kill(child_, SIGKILL);  // and is not waited for: it dies while this goes on
    }
    ASSERT_EQ(0, Read(i, kPiece));
    const auto one = Wait(cq_, 1);
    ASSERT_EQ(1u, one.size());
    done.push_back(one[0]);
    if (one[0].status != IBV_WC_SUCCESS) break;
    ASSERT_GT(kSoon * 4, Clock::now() - start);
  }
  CheckEnd(done);
}

TEST_P(Death, WhileItCopiesIntoThisProcess) {
  Order('r');
  ToRts(qp_, peer_.address, options_);
  Order('w', false);
  const auto start = Clock::now();
  Poke(&buffer_[kPiece - 1], std::byte{1});
  while (Peek(&buffer_[kPiece - 1]) != std::byte{0}) {
    ASSERT_GT(kSoon * 4, Clock::now() - start);
    ibv_wc wc;
    ibv_poll_cq(cq_, 1, &wc);  // over TCP this process moves the bytes
  }
  Kill();
  // Nobody holds the memory any more, so it can be given back at once.
  const auto killed = Clock::now();
  ASSERT_EQ(0, ibv_dereg_mr(mr_));
  EXPECT_GT(kSoon, Clock::now() - killed);
  mr_ = ibv_reg_mr(pd_, buffer_.data(), buffer_.size(), kAllAccess);
  ASSERT_EQ(0, Send(qp_, Wr(0, IBV_WR_SEND), {Range(0, 8)}));
  const auto done = Wait(cq_, 1);
  if (HasEvent()) {
    // Over TCP a last write of it may have come when the memory was gone.
    EXPECT_EQ(IBV_EVENT_QP_ACCESS_ERR, NextEvent()->event_type);
    EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, done.at(0).status);
  } else {
    CheckEnd(done);
  }
}

TEST_P(Death, BeforeItEverGreeted) {
  Kill();
  ToRts(qp_, peer_.address, options_);
  const auto start = Clock::now();
  ASSERT_EQ(0, Send(qp_, Wr(0, IBV_WR_SEND), {Range(0, 8)}));
  CheckEnd(Wait(cq_, 1));
  // 4 x 4.096 us x 2^10 x 2
  EXPECT_LE(std::chrono::microseconds(33554), Clock::now() - start);
  EXPECT_GT(kSoon, Clock::now() - start);
}

TEST_P(Death, InTheMiddleOfTheGreeting) {
  // It listens and says nothing: a connection is there, a greeting is not.
  kill(child_, SIGSTOP);
  ToRts(qp_, peer_.address, options_);
  ASSERT_EQ(0, Send(qp_, Wr(0, IBV_WR_SEND), {Range(0, 8)}));
  const auto start = Clock::now();
  Kill();
  CheckEnd(Wait(cq_, 1));
  EXPECT_GT(kSoon, Clock::now() - start);
}

TEST_P(Death, WhileTheOtherSideOnlyWaits) {
  // A receiver is not told by a completion, as with a device; its next request is.
  Order('r');
  ToRts(qp_, peer_.address, options_);
  ASSERT_EQ(0, Receive(qp_, 5, {Range(0, 64)}));
  ASSERT_EQ(0, Read(0, 8));
  ASSERT_EQ(1u, Wait(cq_, 1).size());
  Kill();
  ASSERT_EQ(0, Send(qp_, Wr(0, IBV_WR_SEND), {Range(0, 8)}));
  const auto done = Wait(cq_, 2);
  EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, done.at(0).status);
  EXPECT_EQ(5u, done.at(1).wr_id);
  EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, done.at(1).status);
}

}  // namespace
}  // namespace oxmem::nex
