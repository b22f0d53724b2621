// What goes wrong, as both ends see it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <errno.h>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

constexpr std::size_t kThere = 512 << 10;

class VerbsErrors : public VerbsTest {
 protected:
  void SetUp() override {
    VerbsTest::SetUp();
    other_cq_ = ibv_create_cq(context_, 256, nullptr, nullptr, 0);
    ASSERT_NE(nullptr, other_cq_);
  }
  void TearDown() override {
    for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
    qps_.clear();
    EXPECT_EQ(0, ibv_destroy_cq(other_cq_));
    VerbsTest::TearDown();
  }
  void Pair(const QpOptions& options = {}) {
    here_ = MakeQp(options);
    there_ = MakeQp(options, other_cq_);
    Connect(here_, there_, options);
  }
  ibv_qp_state StateOf(ibv_qp* qp) {
    ibv_qp_attr attributes{};
    ibv_qp_init_attr init{};
    EXPECT_EQ(0, ibv_query_qp(qp, &attributes, IBV_QP_STATE, &init));
    return attributes.qp_state;
  }
  // The one completion of a request that fails, and what stays behind: an error state whose
  // requests are flushed.
  ibv_wc_status Fails(const ibv_send_wr& wr, const std::vector<ibv_sge>& sges) {
    EXPECT_EQ(0, Send(here_, wr, sges));
    const auto done = Wait(cq_, 1);
    if (done.empty()) return IBV_WC_GENERAL_ERR;
    EXPECT_EQ(wr.wr_id, done[0].wr_id);
    EXPECT_EQ(IBV_QPS_ERR, StateOf(here_));
    EXPECT_EQ(0, Send(here_, Wr(99, IBV_WR_SEND), {Range(0, 8)}));
    const auto flushed = Wait(cq_, 1);
    EXPECT_TRUE(flushed.size() == 1 && flushed[0].status == IBV_WC_WR_FLUSH_ERR);
    return done[0].status;
  }
  static void ToError(ibv_qp* qp) {
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_ERR;
    ASSERT_EQ(0, ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
  }
  void ExpectFlushed(std::uint64_t first, std::size_t count) {
    const auto got = Wait(other_cq_, count);
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(first + i, got[i].wr_id);
      EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, got[i].status);
    }
  }
  ibv_send_wr Remote(ibv_wr_opcode opcode, std::uint64_t address, std::uint32_t key) const {
    ibv_send_wr wr = Wr(7, opcode);
    wr.wr.rdma = {address, key};
    return wr;
  }

  ibv_qp* here_ = nullptr;
  ibv_qp* there_ = nullptr;
  ibv_cq* other_cq_ = nullptr;
};

TEST_F(VerbsErrors, AKeyThatDoesNotExistIsARemoteAccessError) {
  Pair();
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
            Fails(Remote(IBV_WR_RDMA_WRITE, At(kThere), mr_->rkey ^ 0x5a5a00), {Range(0, 8)}));
  EXPECT_EQ(IBV_QPS_ERR, StateOf(there_));
}

TEST_F(VerbsErrors, ReadsAndWritesBeyondTheRegionAreRefused) {
  for (const ibv_wr_opcode opcode : {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ}) {
    Pair();
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
              Fails(Remote(opcode, At(kBuffer - 4), mr_->rkey), {Range(0, 8)}));
    Pair();
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, Fails(Remote(opcode, At(0) - 1, mr_->rkey), {Range(0, 8)}));
  }
}

TEST_F(VerbsErrors, ARegionGivesOnlyTheRightsItWasRegisteredWith) {
  ibv_mr* readable = ibv_reg_mr(pd_, buffer_.data(), 4096, IBV_ACCESS_REMOTE_READ);
  ibv_mr* writable =
      ibv_reg_mr(pd_, buffer_.data(), 4096, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE);
  ASSERT_TRUE(readable != nullptr && writable != nullptr);
  Pair();
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
            Fails(Remote(IBV_WR_RDMA_WRITE, At(0), readable->rkey), {Range(kThere, 8)}));
  Pair();
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
            Fails(Remote(IBV_WR_RDMA_READ, At(0), writable->rkey), {Range(kThere, 8)}));
  Pair();
  ibv_send_wr wr = Wr(7, IBV_WR_ATOMIC_FETCH_AND_ADD);
  wr.wr.atomic = {At(0), 1, 0, writable->rkey};
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, Fails(wr, {Range(kThere, 8)}));
  EXPECT_EQ(0, ibv_dereg_mr(readable));
  EXPECT_EQ(0, ibv_dereg_mr(writable));
}

TEST_F(VerbsErrors, AQueuePairGivesOnlyItsOwnRights) {
  QpOptions options;
  options.access = IBV_ACCESS_REMOTE_READ;
  Pair(options);
  const auto status = Fails(Remote(IBV_WR_RDMA_WRITE, At(kThere), mr_->rkey), {Range(0, 8)});
  EXPECT_THAT(status, testing::AnyOf(IBV_WC_REM_INV_REQ_ERR, IBV_WC_REM_ACCESS_ERR));
}

TEST_F(VerbsErrors, ARegionOfAnotherDomainIsNotReached) {
  ibv_pd* other = ibv_alloc_pd(context_);
  ibv_mr* mr = ibv_reg_mr(other, buffer_.data(), 4096, kAllAccess);
  ASSERT_NE(nullptr, mr);
  Pair();
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
            Fails(Remote(IBV_WR_RDMA_WRITE, At(0), mr->rkey), {Range(kThere, 8)}));
  EXPECT_EQ(0, ibv_dereg_mr(mr));
  EXPECT_EQ(0, ibv_dealloc_pd(other));
}

TEST_F(VerbsErrors, AnAtomicAtAnOddAddressIsAnInvalidRequest) {
  Pair();
  ibv_send_wr wr = Wr(7, IBV_WR_ATOMIC_FETCH_AND_ADD);
  wr.wr.atomic = {At(kThere + 4), 1, 0, mr_->rkey};
  EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, Fails(wr, {Range(0, 8)}));
}

TEST_F(VerbsErrors, AReceiveThatIsTooSmallFailsOnBothEnds) {
  Pair();
  ASSERT_EQ(0, Receive(there_, 3, {Range(kThere, 10)}));
  EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, Fails(Wr(7, IBV_WR_SEND), {Range(0, 11)}));
  const auto got = Wait(other_cq_, 1);
  ASSERT_EQ(1u, got.size());
  EXPECT_EQ(IBV_WC_LOC_LEN_ERR, got[0].status);
  EXPECT_EQ(3u, got[0].wr_id);
  EXPECT_EQ(IBV_QPS_ERR, StateOf(there_));
}

TEST_F(VerbsErrors, ALocalKeyThatDoesNotExistIsAProtectionError) {
  Pair();
  ibv_sge sge = Range(0, 8);
  sge.lkey ^= 0x5a5a00;
  EXPECT_EQ(IBV_WC_LOC_PROT_ERR, Fails(Wr(7, IBV_WR_SEND), {sge}));
}

TEST_F(VerbsErrors, WithoutAReceiveTheSenderRetriesAsOftenAsItWasTold) {
  QpOptions options;
  options.rnr_retry = 1;
  options.min_rnr_timer = 1;  // 0.01 ms
  Pair(options);
  EXPECT_EQ(IBV_WC_RNR_RETRY_EXC_ERR, Fails(Wr(7, IBV_WR_SEND), {Range(0, 8)}));
}

TEST_F(VerbsErrors, AReceiveThatComesLateIsWaitedFor) {
  Pair();
  ASSERT_EQ(0, Send(here_, Wr(7, IBV_WR_SEND), {Range(0, 8)}));
  ibv_wc wc;
  EXPECT_EQ(0, ibv_poll_cq(cq_, 1, &wc));
  ASSERT_EQ(0, Receive(there_, 1, {Range(kThere, 8)}));
  EXPECT_EQ(IBV_WC_SUCCESS, Wait(cq_, 1).front().status);
  EXPECT_EQ(IBV_WC_SUCCESS, Wait(other_cq_, 1).front().status);
}

TEST_F(VerbsErrors, ErrorStateFlushesReceivesInOrder) {
  Pair();
  for (std::uint64_t i = 0; i < 5; ++i) ASSERT_EQ(0, Receive(there_, i, {Range(kThere, 8)}));
  ToError(there_);
  ExpectFlushed(0, 5);
}

TEST_F(VerbsErrors, ReceivesPostedInErrorStateAreFlushed) {
  Pair();
  ToError(there_);
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(0, Receive(there_, i, {Range(kThere, 8)}));
  ExpectFlushed(0, 3);
}

TEST_F(VerbsErrors, APeerThatIsGoneIsRetriedAndThenGivenUp) {
  QpOptions options;
  options.timeout = 8;  // 1 ms
  options.retry_count = 1;
  Pair(options);
  EXPECT_EQ(0, ibv_destroy_qp(there_));
  std::erase(qps_, there_);
  EXPECT_EQ(IBV_WC_RETRY_EXC_ERR,
            Fails(Remote(IBV_WR_RDMA_WRITE, At(kThere), mr_->rkey), {Range(0, 8)}));
}

TEST_F(VerbsErrors, FullQueuesRefuseWhatIsOneTooMany) {
  QpOptions options;
  options.depth = 4;
  here_ = MakeQp(options);
  ToInit(here_, options);
  ibv_qp_attr attributes{};
  ibv_qp_init_attr init{};
  ASSERT_EQ(0, ibv_query_qp(here_, &attributes, IBV_QP_CAP, &init));
  EXPECT_EQ(EINVAL, Receive(here_, 99, {5, Range(0, 8)}));  // more pieces than it was made for
  for (std::uint32_t i = 0; i < init.cap.max_recv_wr; ++i) {
    ASSERT_EQ(0, Receive(here_, i, {Range(0, 8)}));
  }
  EXPECT_EQ(ENOMEM, Receive(here_, 99, {Range(0, 8)}));
}

TEST_F(VerbsErrors, RequestsAreTakenFromTheStateThatSendsOn) {
  here_ = MakeQp({});
  EXPECT_NE(0, Send(here_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  EXPECT_NE(0, Receive(here_, 1, {Range(0, 8)}));
  ToInit(here_, {});
  EXPECT_NE(0, Send(here_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  EXPECT_EQ(0, Receive(here_, 1, {Range(0, 8)}));
}

}  // namespace
}  // namespace oxmem::nex
