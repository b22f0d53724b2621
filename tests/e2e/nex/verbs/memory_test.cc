// Memory that the program gave back to the system while it was registered or posted: the operation
// ends with an error, and the program goes on.
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstring>
#include <string>
#include <thread>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

// Who would have to catch a fault: the library, or nobody, as the program has a handler of its own
// or blocks the signals.
enum class Faults { kCaught, kOwnHandler, kSystemVHandler, kBlocked };

class GoneMemory : public VerbsTest, public testing::WithParamInterface<Faults> {
 protected:
  static constexpr std::uint32_t kSize = 1 << 20;
  static constexpr std::uint32_t kSizes[] = {8, 4096, 100000, kSize};

  void SetUp() override {
    if (GetParam() == Faults::kBlocked) {
      sigset_t faults;
      sigemptyset(&faults);
      sigaddset(&faults, SIGSEGV);
      sigaddset(&faults, SIGBUS);
      ASSERT_EQ(0, pthread_sigmask(SIG_BLOCK, &faults, nullptr));
    }
    VerbsTest::SetUp();
    if (GetParam() == Faults::kOwnHandler) {
      ASSERT_NE(SIG_ERR, signal(SIGSEGV, SIG_DFL));
    }
    if (GetParam() == Faults::kSystemVHandler) {
      ASSERT_NE(SIG_ERR, __sysv_signal(SIGSEGV, SIG_DFL));
    }
    void* memory =
        mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
    ASSERT_NE(MAP_FAILED, memory);
    memory_ = static_cast<std::byte*>(memory);
    region_ = ibv_reg_mr(pd_, memory_, kSize, kAllAccess);
    ASSERT_NE(nullptr, region_);
    Fresh({});
  }
  void TearDown() override {
    DestroyQps();
    EXPECT_EQ(0, ibv_dereg_mr(region_));
    EXPECT_EQ(0, munmap(memory_, kSize));
    VerbsTest::TearDown();
  }
  void DestroyQps() {
    for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
    qps_.clear();
  }
  void Fresh(const QpOptions& options) {
    DestroyQps();
    a_ = MakeQp(options);
    b_ = MakeQp(options);
    Connect(a_, b_, options);
  }
  // The pages go, and nothing else is mapped there by chance.
  void GiveBack(std::uint32_t from = 0) {
    ASSERT_NE(MAP_FAILED, mmap(memory_ + from, kSize - from, PROT_NONE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, /*fd=*/-1, 0));
  }
  std::uint64_t GoneAt() const { return reinterpret_cast<std::uintptr_t>(memory_); }
  ibv_sge Gone(std::uint32_t length) const { return {GoneAt(), length, region_->lkey}; }
  ibv_send_wr RemoteGone(ibv_wr_opcode opcode) const {
    ibv_send_wr wr = Wr(1, opcode);
    if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD || opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
      wr.wr.atomic = {GoneAt(), 0, 1, region_->rkey};
    } else {
      wr.wr.rdma = {GoneAt(), region_->rkey};
    }
    return wr;
  }
  ibv_send_wr RemoteGood(ibv_wr_opcode opcode) const {
    ibv_send_wr wr = Wr(1, opcode);
    if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
      wr.wr.atomic = {At(0), 1, 0, mr_->rkey};
    } else {
      wr.wr.rdma = {At(0), mr_->rkey};
    }
    return wr;
  }
  // What a queue pair's next completion says, of `count` that come for both.
  std::vector<ibv_wc_status> StatusesOf(const ibv_qp* qp, std::size_t count) {
    std::vector<ibv_wc_status> statuses;
    for (const ibv_wc& wc : Wait(cq_, count)) {
      if (wc.qp_num == qp->qp_num) statuses.push_back(wc.status);
    }
    return statuses;
  }
  ibv_wc_status StatusOf(const ibv_send_wr& wr, const std::vector<ibv_sge>& sges) {
    EXPECT_EQ(0, Send(a_, wr, sges));
    const auto done = Wait(cq_, 1);
    return done.empty() ? IBV_WC_GENERAL_ERR : done[0].status;
  }
  using Statuses = std::vector<ibv_wc_status>;

  std::byte* memory_ = nullptr;
  ibv_mr* region_ = nullptr;
  ibv_qp* a_ = nullptr;
  ibv_qp* b_ = nullptr;
};

TEST_P(GoneMemory, OfAReceiveEndsTheReceiveAndTheSend) {
  GiveBack();
  for (const std::uint32_t size : kSizes) {
    SCOPED_TRACE(size);
    Fresh({});
    ASSERT_EQ(0, Receive(b_, 7, {Gone(size)}));
    ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, size)}));
    const auto done = Wait(cq_, 2);
    ASSERT_EQ(2u, done.size());
    for (const ibv_wc& wc : done) {
      EXPECT_EQ(wc.qp_num == b_->qp_num ? IBV_WC_LOC_PROT_ERR : IBV_WC_REM_OP_ERR, wc.status);
    }
  }
}

TEST_P(GoneMemory, OfASharedReceiveEndsTheReceiveAndTheSend) {
  GiveBack();
  ibv_srq_init_attr init{};
  init.attr = {16, 4, 0};
  QpOptions options;
  options.srq = ibv_create_srq(pd_, &init);
  ASSERT_NE(nullptr, options.srq);
  Fresh(options);
  const ibv_sge sge = Gone(64);
  ibv_recv_wr receive{};
  receive.wr_id = 7;
  receive.sg_list = const_cast<ibv_sge*>(&sge);
  receive.num_sge = 1;
  ibv_recv_wr* bad = nullptr;
  ASSERT_EQ(0, ibv_post_srq_recv(options.srq, &receive, &bad));
  ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
  const auto done = Wait(cq_, 2);
  ASSERT_EQ(2u, done.size());
  for (const ibv_wc& wc : done) {
    EXPECT_EQ(wc.qp_num == b_->qp_num ? IBV_WC_LOC_PROT_ERR : IBV_WC_REM_OP_ERR, wc.status);
  }
  DestroyQps();
  EXPECT_EQ(0, ibv_destroy_srq(options.srq));
}

TEST_P(GoneMemory, OfAPeerIsARemoteAccessErrorToWritesAndAtomics) {
  GiveBack();
  for (const ibv_wr_opcode opcode :
       {IBV_WR_RDMA_WRITE, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_ATOMIC_CMP_AND_SWP}) {
    for (const std::uint32_t size : kSizes) {
      if (opcode != IBV_WR_RDMA_WRITE && size != 8) continue;
      SCOPED_TRACE("opcode " + std::to_string(opcode) + ", " + std::to_string(size));
      Fresh({});
      EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, StatusOf(RemoteGone(opcode), {Range(0, size)}));
      const auto event = NextEvent();
      ASSERT_TRUE(event);
      EXPECT_EQ(IBV_EVENT_QP_ACCESS_ERR, event->event_type);
    }
  }
}

TEST_P(GoneMemory, OfAPeerEndsAReadOfIt) {
  GiveBack();
  for (const std::uint32_t size : kSizes) {
    SCOPED_TRACE(size);
    Fresh({});
    EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, StatusOf(RemoteGone(IBV_WR_RDMA_READ), {Range(0, size)}));
  }
}

TEST_P(GoneMemory, OfARequestIsALocalProtectionError) {
  GiveBack();
  for (const ibv_wr_opcode opcode :
       {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD}) {
    for (const std::uint32_t size : kSizes) {
      if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD && size != 8) continue;
      SCOPED_TRACE("opcode " + std::to_string(opcode) + ", " + std::to_string(size));
      Fresh({});
      EXPECT_EQ(IBV_WC_LOC_PROT_ERR, StatusOf(RemoteGood(opcode), {Gone(size)}));
    }
  }
}

TEST_P(GoneMemory, OfASendFailsItAfterWhatWasSentBefore) {
  GiveBack();
  for (const std::uint32_t size : {8u, 4096u}) {
    SCOPED_TRACE(size);
    Fresh({});
    constexpr int kBefore = 3;
    for (int i = 0; i <= kBefore; ++i) ASSERT_EQ(0, Receive(b_, 7, {Range(kBuffer / 2, 4096)}));
    for (int i = 0; i < kBefore; ++i) {
      ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 4096)}));
    }
    ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Gone(size)}));
    const Statuses expected(kBefore, IBV_WC_SUCCESS);
    Statuses got = StatusesOf(a_, 2 * (kBefore + 1));
    ASSERT_FALSE(got.empty());
    EXPECT_EQ(IBV_WC_LOC_PROT_ERR, got.back());
    got.pop_back();
    EXPECT_EQ(expected, got);
  }
}

TEST_P(GoneMemory, HalfOfItIsEnough) {
  GiveBack(kSize / 2);
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, StatusOf(RemoteGone(IBV_WR_RDMA_WRITE), {Range(0, kSize)}));
  Fresh({});
  EXPECT_EQ(IBV_WC_LOC_PROT_ERR, StatusOf(RemoteGood(IBV_WR_RDMA_WRITE), {Gone(kSize)}));
  Fresh({});
  EXPECT_EQ(IBV_WC_LOC_PROT_ERR, StatusOf(RemoteGood(IBV_WR_RDMA_READ), {Gone(kSize)}));
}

// Nobody polls, so the library's thread finds it.
TEST_P(GoneMemory, IsFoundForAProgramThatSleeps) {
  GiveBack(kSize / 2);
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  ASSERT_NE(nullptr, channel);
  ibv_cq* cq = ibv_create_cq(context_, 64, nullptr, channel, 0);
  ASSERT_NE(nullptr, cq);
  for (const bool sends : {false, true}) {
    SCOPED_TRACE(sends);
    DestroyQps();
    a_ = MakeQp({}, cq);
    b_ = MakeQp({});
    Connect(a_, b_, {});
    ASSERT_EQ(0, ibv_req_notify_cq(cq, 0));
    const ibv_wr_opcode opcode = IBV_WR_RDMA_WRITE;
    ASSERT_EQ(0, sends ? Send(a_, RemoteGood(opcode), {Gone(kSize)})
                       : Send(a_, RemoteGone(opcode), {Range(0, kSize)}));
    pollfd event{channel->fd, POLLIN, 0};
    ASSERT_EQ(1, poll(&event, 1, 20000));
    ibv_cq* told = nullptr;
    void* context = nullptr;
    ASSERT_EQ(0, ibv_get_cq_event(channel, &told, &context));
    ibv_ack_cq_events(told, 1);
    const auto done = Wait(cq, 1);
    ASSERT_EQ(1u, done.size());
    EXPECT_EQ(sends ? IBV_WC_LOC_PROT_ERR : IBV_WC_REM_ACCESS_ERR, done[0].status);
  }
  DestroyQps();
  EXPECT_EQ(0, ibv_destroy_cq(cq));
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
}

TEST_P(GoneMemory, CostsAnUnreliablePairTheMessageAlone) {
  QpOptions options;
  options.type = IBV_QPT_UC;
  GiveBack();
  for (const std::uint32_t size : kSizes) {
    SCOPED_TRACE(size);
    Fresh(options);
    ASSERT_EQ(0, Receive(b_, 7, {Range(kBuffer / 2, 64)}));
    std::memcpy(&buffer_[0], &size, sizeof size);
    EXPECT_EQ(IBV_WC_SUCCESS, StatusOf(RemoteGone(IBV_WR_RDMA_WRITE), {Range(0, size)}));
    ASSERT_EQ(0, Send(a_, Wr(2, IBV_WR_SEND), {Range(0, 64)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
    EXPECT_EQ(0, std::memcmp(&buffer_[0], &buffer_[kBuffer / 2], 64));
  }
}

// The responder fails first, and the request with it.
TEST_P(GoneMemory, OfAPairThatTalksToItselfEndsThePair) {
  GiveBack();
  for (const std::uint32_t size : kSizes) {
    SCOPED_TRACE(size);
    DestroyQps();
    a_ = MakeQp({});
    ToInit(a_, {});
    ToRts(a_, AddressOf(a_), {});
    EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, StatusOf(RemoteGone(IBV_WR_RDMA_WRITE), {Range(0, size)}));
  }
}

// What was found out about the thread before counts no longer.
class LaterBlocked : public GoneMemory {};

TEST_P(LaterBlocked, SignalsAreSeenToBe) {
  for (const auto block : {&pthread_sigmask, &sigprocmask}) {
    std::thread([this, block] {
      for (int i = 0; i < 8; ++i) {
        ASSERT_EQ(0, Receive(b_, 7, {Range(kBuffer / 2, 64)}));
        ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
        for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
      }
      sigset_t all;
      sigfillset(&all);
      ASSERT_EQ(0, block(SIG_BLOCK, &all, nullptr));
      GiveBack();
      ASSERT_EQ(0, Receive(b_, 7, {Gone(64)}));
      ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 64)}));
      for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_NE(IBV_WC_SUCCESS, wc.status);
    }).join();
    Fresh({});
  }
}

INSTANTIATE_TEST_SUITE_P(Faults, LaterBlocked, testing::Values(Faults::kCaught));

INSTANTIATE_TEST_SUITE_P(Faults, GoneMemory,
                         testing::Values(Faults::kCaught, Faults::kOwnHandler,
                                         Faults::kSystemVHandler, Faults::kBlocked),
                         [](const testing::TestParamInfo<Faults>& one) -> std::string {
                           switch (one.param) {
                             case Faults::kCaught:
                               return "Caught";
                             case Faults::kOwnHandler:
                               return "OwnHandler";
                             case Faults::kSystemVHandler:
                               return "SystemVHandler";
                             case Faults::kBlocked:
                               return "Blocked";
                           }
                           return "";
                         });

}  // namespace
}  // namespace oxmem::nex
