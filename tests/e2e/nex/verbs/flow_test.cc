// Receives that are not there, shared receive queues, and the asynchronous events of queue pairs.
#include <errno.h>

#include <chrono>
#include <map>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

using Clock = std::chrono::steady_clock;

class Flow : public VerbsTest {
 protected:
  void Pair(const QpOptions& options) {
    a_ = MakeQp(options);
    b_ = MakeQp(options);
    Connect(a_, b_, options);
  }
  ibv_srq* MakeSrq(std::uint32_t depth) {
    ibv_srq_init_attr wanted{nullptr, {depth, 1, 0}};
    ibv_srq* srq = ibv_create_srq(pd_, &wanted);
    EXPECT_NE(nullptr, srq);
    return srq;
  }
  int PostShared(ibv_srq* srq, std::uint64_t id) {
    ibv_sge sge = Range(8192, 64);
    ibv_recv_wr wr{};
    wr.wr_id = id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    ibv_recv_wr* bad = nullptr;
    return ibv_post_srq_recv(srq, &wr, &bad);
  }
  static void ChangeState(ibv_qp* qp, ibv_qp_state state) {
    ibv_qp_attr attributes{};
    attributes.qp_state = state;
    ASSERT_EQ(0, ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
  }
  static void ToError(ibv_qp* qp) { ChangeState(qp, IBV_QPS_ERR); }
  // Nothing new is sent from now on, and an event says when nothing is under way any more.
  static void Drain(ibv_qp* qp) {
    ibv_qp_attr attributes{};
    attributes.qp_state = IBV_QPS_SQD;
    attributes.en_sqd_async_notify = 1;
    ASSERT_EQ(0, ibv_modify_qp(qp, &attributes, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY));
  }
  static bool IsDraining(ibv_qp* qp) {
    ibv_qp_attr attributes{};
    ibv_qp_init_attr init{};
    EXPECT_EQ(0, ibv_query_qp(qp, &attributes, IBV_QP_STATE, &init));
    EXPECT_EQ(IBV_QPS_SQD, attributes.qp_state);
    return attributes.sq_draining != 0;
  }
  void DestroyQps() {
    for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
    qps_.clear();
  }
  std::optional<ibv_event_type> NextType() {
    const auto event = NextEvent();
    return event ? std::optional(event->event_type) : std::nullopt;
  }

  ibv_qp* a_ = nullptr;
  ibv_qp* b_ = nullptr;
};

TEST_F(Flow, FiniteRetriesWithoutAReceiveEndAfterTheirTimers) {
  for (const std::uint8_t retries : {0, 2}) {
    QpOptions options;
    options.rnr_retry = retries;
    options.min_rnr_timer = 20;  // 10.24 ms
    Pair(options);
    const auto start = Clock::now();
    ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
    ASSERT_EQ(0, Send(a_, Wr(2, IBV_WR_SEND), {Range(0, 8)}));
    const auto done = Wait(cq_, 2);
    EXPECT_EQ(IBV_WC_RNR_RETRY_EXC_ERR, done.at(0).status);
    EXPECT_EQ(1u, done.at(0).wr_id);
    EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, done.at(1).status);
    EXPECT_LE(std::chrono::microseconds(10240) * retries, Clock::now() - start);
  }
}

TEST_F(Flow, AReceiveInTimeEndsTheRetries) {
  QpOptions options;
  options.rnr_retry = 6;
  options.min_rnr_timer = 31;  // 491 ms each
  Pair(options);
  ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  ASSERT_EQ(0, Receive(b_, 7, {Range(4096, 64)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
}

TEST_F(Flow, EndlessRetriesWaitForEachReceive) {
  Pair({});
  constexpr std::uint64_t kMessages = 40;
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    ASSERT_EQ(0, Send(a_, Wr(i, IBV_WR_SEND), {Range(i, 1)}));
    buffer_[i] = static_cast<std::byte>(i);
  }
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    ASSERT_EQ(0, Receive(b_, 100 + i, {Range(4096 + i, 1)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) {
      EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
      EXPECT_EQ(wc.opcode == IBV_WC_RECV ? 100 + i : i, wc.wr_id);
    }
    EXPECT_EQ(static_cast<std::byte>(i), buffer_[4096 + i]);
  }
}

TEST_F(Flow, BurstsOfReceivesLetAsManyMessagesThrough) {
  Pair({});
  std::uint64_t sent = 0, posted = 0, received = 0, completed = 0;
  for (const std::uint64_t burst : {1, 17, 3, 32, 1, 1, 9}) {
    while (sent < completed + 60) ASSERT_EQ(0, Send(a_, Wr(sent++, IBV_WR_SEND), {Range(0, 64)}));
    for (std::uint64_t i = 0; i < burst; ++i) {
      ASSERT_EQ(0, Receive(b_, posted++, {Range(4096, 64)}));
    }
    while (received < posted) {
      for (const ibv_wc& wc : Wait(cq_, 1)) {
        ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
        std::uint64_t& counted = wc.opcode == IBV_WC_RECV ? received : completed;
        EXPECT_EQ(counted++, wc.wr_id);
      }
    }
  }
  EXPECT_LE(completed, posted);
}

TEST_F(Flow, ASharedQueueTellsOnceThatItFellBelowItsLimit) {
  ibv_srq* srq = MakeSrq(16);
  QpOptions options;
  options.srq = srq;
  Pair(options);
  for (std::uint64_t i = 0; i < 6; ++i) ASSERT_EQ(0, PostShared(srq, i));
  ibv_srq_attr limit{};
  limit.srq_limit = 4;
  ASSERT_EQ(0, ibv_modify_srq(srq, &limit, IBV_SRQ_LIMIT));
  for (std::uint64_t i = 0; i < 2; ++i) ASSERT_EQ(0, Send(a_, Wr(9, IBV_WR_SEND), {Range(0, 8)}));
  Wait(cq_, 4);
  EXPECT_FALSE(HasEvent());
  for (std::uint64_t i = 0; i < 2; ++i) ASSERT_EQ(0, Send(a_, Wr(9, IBV_WR_SEND), {Range(0, 8)}));
  Wait(cq_, 4);
  EXPECT_EQ(IBV_EVENT_SRQ_LIMIT_REACHED, NextType());
  EXPECT_FALSE(HasEvent());
  ASSERT_EQ(0, ibv_query_srq(srq, &limit));
  EXPECT_EQ(0u, limit.srq_limit);  // it has to be armed again
  DestroyQps();
  EXPECT_EQ(0, ibv_destroy_srq(srq));
}

TEST_F(Flow, ASharedQueueServesWhoeverWaited) {
  ibv_srq* srq = MakeSrq(16);
  QpOptions options;
  options.srq = srq;
  Pair(options);
  ibv_qp* c = MakeQp(options);
  ibv_qp* d = MakeQp(options);
  Connect(c, d, options);
  ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  ASSERT_EQ(0, Send(c, Wr(2, IBV_WR_SEND), {Range(0, 8)}));
  for (std::uint64_t i = 0; i < 2; ++i) ASSERT_EQ(0, PostShared(srq, 10 + i));
  for (const ibv_wc& wc : Wait(cq_, 4)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  DestroyQps();
  EXPECT_EQ(0, ibv_destroy_srq(srq));
}

TEST_F(Flow, AQueuePairOfASharedQueueTellsThatItTakesNoMore) {
  ibv_srq* srq = MakeSrq(4);
  QpOptions options;
  options.srq = srq;
  Pair(options);
  ToError(b_);
  const auto event = NextEvent();
  ASSERT_TRUE(event);
  EXPECT_EQ(IBV_EVENT_QP_LAST_WQE_REACHED, event->event_type);
  EXPECT_EQ(b_, event->element.qp);
  DestroyQps();
  EXPECT_EQ(0, ibv_destroy_srq(srq));
}

TEST_F(Flow, TheFirstMessageBeforeRtsIsAnEvent) {
  const QpOptions options;
  a_ = MakeQp(options);
  b_ = MakeQp(options);
  ToInit(a_, options);
  ToInit(b_, options);
  ASSERT_EQ(0, Receive(b_, 7, {Range(4096, 64)}));
  ToRts(a_, AddressOf(b_), options);
  ToRtr(b_, AddressOf(a_), options);
  ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  Wait(cq_, 2);
  const auto event = NextEvent();
  ASSERT_TRUE(event);
  EXPECT_EQ(IBV_EVENT_COMM_EST, event->event_type);
  EXPECT_EQ(b_, event->element.qp);
  EXPECT_FALSE(HasEvent());
}

TEST_F(Flow, ASendQueueThatIsDrainedSaysSoAndHoldsWhatIsPostedThen) {
  Pair({});
  Drain(a_);
  const auto event = NextEvent();
  ASSERT_TRUE(event);
  EXPECT_EQ(IBV_EVENT_SQ_DRAINED, event->event_type);
  EXPECT_EQ(a_, event->element.qp);
  ASSERT_EQ(0, Receive(b_, 7, {Range(4096, 64)}));
  ASSERT_EQ(0, Receive(a_, 8, {Range(4096, 64)}));
  ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  // The other direction goes on: it is done, and nothing else is.
  ASSERT_EQ(0, Send(b_, Wr(2, IBV_WR_SEND), {Range(0, 8)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_TRUE(wc.wr_id == 8 || wc.wr_id == 2) << wc.wr_id;
  EXPECT_FALSE(IsDraining(a_));
  ChangeState(a_, IBV_QPS_RTS);
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_TRUE(wc.wr_id == 7 || wc.wr_id == 1) << wc.wr_id;
  EXPECT_FALSE(HasEvent());
}

TEST_F(Flow, ASendQueueWhosePeerIsNotThereIsDrainedAtOnce) {
  for (const ibv_qp_type type : {IBV_QPT_RC, IBV_QPT_UC}) {
    QpOptions options;
    options.type = type;
    a_ = MakeQp(options);
    b_ = MakeQp(options);
    ToInit(a_, options);
    ToInit(b_, options);
    ToRts(a_, AddressOf(b_), options);
    ibv_send_wr write = Wr(1, IBV_WR_RDMA_WRITE);
    write.wr.rdma = {At(8192), mr_->rkey};
    ASSERT_EQ(0, Send(a_, write, {Range(0, 8)}));
    Drain(a_);
    EXPECT_TRUE(HasEvent());
    EXPECT_EQ(IBV_EVENT_SQ_DRAINED, NextType());
    EXPECT_FALSE(IsDraining(a_));
    write.wr_id = 2;
    ASSERT_EQ(0, Send(a_, write, {Range(0, 8)}));
    EXPECT_FALSE(IsDraining(a_));
    ToRts(b_, AddressOf(a_), options);
    ChangeState(a_, IBV_QPS_RTS);
    const auto done = Wait(cq_, 2);
    ASSERT_EQ(2u, done.size());
    for (std::uint64_t i = 0; i < 2; ++i) {
      EXPECT_EQ(IBV_WC_SUCCESS, done[i].status);
      EXPECT_EQ(i + 1, done[i].wr_id);
    }
    EXPECT_FALSE(HasEvent());
  }
}

TEST_F(Flow, ASendQueueIsDrainedWhenWhatWaitsForAReceiveHasGotOne) {
  ibv_srq* srq = MakeSrq(16);  // of which the sender knows nothing
  QpOptions options;
  options.srq = srq;
  Pair(options);
  ASSERT_EQ(0, PostShared(srq, 7));
  ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  Wait(cq_, 2);  // so they are connected
  ASSERT_EQ(0, Send(a_, Wr(2, IBV_WR_SEND), {Range(0, 8)}));
  Drain(a_);
  ASSERT_EQ(0, Send(a_, Wr(3, IBV_WR_SEND), {Range(0, 8)}));
  EXPECT_TRUE(IsDraining(a_));
  EXPECT_FALSE(HasEvent());
  ASSERT_EQ(0, PostShared(srq, 8));
  ASSERT_EQ(0, PostShared(srq, 9));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_TRUE(wc.wr_id == 8 || wc.wr_id == 2) << wc.wr_id;
  EXPECT_EQ(IBV_EVENT_SQ_DRAINED, NextType());
  EXPECT_FALSE(IsDraining(a_));
  ChangeState(a_, IBV_QPS_RTS);
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_TRUE(wc.wr_id == 9 || wc.wr_id == 3) << wc.wr_id;
  DestroyQps();
  EXPECT_EQ(0, ibv_destroy_srq(srq));
}

TEST_F(Flow, ASendQueueIsDrainedWhenThePeerOfAnUnreliableQueuePairGoes) {
  constexpr std::uint32_t kLarge = 16 << 20;
  std::vector<std::byte> memory(2 * kLarge);
  ibv_mr* mr = ibv_reg_mr(pd_, memory.data(), memory.size(), kAllAccess);
  ASSERT_NE(nullptr, mr);
  const ibv_sge all{reinterpret_cast<std::uintptr_t>(memory.data()), kLarge, mr->lkey};
  QpOptions options;
  options.type = IBV_QPT_UC;
  Pair(options);
  ibv_send_wr write = Wr(1, IBV_WR_RDMA_WRITE);
  write.wr.rdma = {all.addr + kLarge, mr->rkey};
  ASSERT_EQ(0, Send(a_, write, {Range(0, 8)}));
  Wait(cq_, 1);  // so they are connected
  // Far more than the peer hears before it has gone.
  for (std::uint32_t i = 0; i < options.depth; ++i) ASSERT_EQ(0, Send(a_, write, {all}));
  Drain(a_);
  ASSERT_EQ(0, ibv_destroy_qp(b_));
  std::erase(qps_, b_);
  EXPECT_EQ(IBV_EVENT_SQ_DRAINED, NextType());
  EXPECT_FALSE(IsDraining(a_));
  DestroyQps();
  EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F(Flow, EverythingPostedIsFlushedInOrder) {
  Pair({});
  for (std::uint64_t i = 0; i < 20; ++i) {
    ASSERT_EQ(0, Receive(a_, 100 + i, {Range(4096, 64)}));
    ASSERT_EQ(0, Send(a_, Wr(i, IBV_WR_SEND), {Range(0, 8)}));
  }
  ToError(a_);
  ASSERT_EQ(0, Receive(a_, 120, {Range(4096, 64)}));
  ASSERT_EQ(0, Send(a_, Wr(20, IBV_WR_SEND), {Range(0, 8)}));
  std::uint64_t sends = 0, receives = 100;
  for (const ibv_wc& wc : Wait(cq_, 42)) {
    EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, wc.status);
    EXPECT_EQ(wc.wr_id >= 100 ? receives++ : sends++, wc.wr_id);
  }
  EXPECT_EQ(21u, sends);
  EXPECT_EQ(121u, receives);
}

TEST_F(Flow, APathOfAnotherPortAndUnknownRightsAreRefused) {
  ibv_qp* qp = MakeQp({});
  ToInit(qp, {});
  ibv_qp_attr a{};
  a.qp_state = IBV_QPS_RTR;
  a.path_mtu = IBV_MTU_1024;
  a.dest_qp_num = qp->qp_num;
  a.ah_attr.port_num = 7;
  a.ah_attr.dlid = AddressOf(qp).lid;
  const int mask = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                   IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  EXPECT_EQ(EINVAL, ibv_modify_qp(qp, &a, mask));
  a.ah_attr.port_num = 1;
  a.qp_access_flags = 1u << 30;
  EXPECT_EQ(EINVAL, ibv_modify_qp(qp, &a, mask | IBV_QP_ACCESS_FLAGS));
  EXPECT_EQ(0, ibv_modify_qp(qp, &a, mask));
}

TEST_F(Flow, AWrongRequestOfAnUnreliableQueuePairStopsItsSendingOnly) {
  QpOptions options;
  options.type = IBV_QPT_UC;
  Pair(options);
  for (std::uint64_t round = 0; round < 3; ++round) {
    ASSERT_EQ(0, Receive(b_, 7, {Range(4096, 8)}));
    ibv_sge wrong = Range(0, 8);
    wrong.lkey ^= 1;
    ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
    ASSERT_EQ(0, Send(a_, Wr(2, IBV_WR_SEND), {wrong}));
    ASSERT_EQ(0, Send(a_, Wr(3, IBV_WR_SEND), {Range(0, 8)}));
    std::map<std::uint64_t, ibv_wc_status> ended;
    for (const ibv_wc& wc : Wait(cq_, 4)) ended[wc.wr_id] = wc.status;
    EXPECT_EQ((std::map<std::uint64_t, ibv_wc_status>{{1, IBV_WC_SUCCESS},
                                                      {2, IBV_WC_LOC_PROT_ERR},
                                                      {3, IBV_WC_WR_FLUSH_ERR},
                                                      {7, IBV_WC_SUCCESS}}),
              ended);
    ibv_qp_attr attributes{};
    ibv_qp_init_attr init;
    ASSERT_EQ(0, ibv_query_qp(a_, &attributes, IBV_QP_STATE, &init));
    EXPECT_EQ(IBV_QPS_SQE, attributes.qp_state);
    EXPECT_EQ(IBV_QPS_SQE, a_->state);
    // It is flushed what is posted now, and what the peer sends is received.
    ASSERT_EQ(0, Send(a_, Wr(4, IBV_WR_SEND), {Range(0, 8)}));
    EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, Wait(cq_, 1).at(0).status);
    ASSERT_EQ(0, Receive(a_, 8, {Range(8192, 8)}));
    ASSERT_EQ(0, Send(b_, Wr(5, IBV_WR_SEND), {Range(0, 8)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
    // The program takes note of it, and sends again.
    attributes = {};
    attributes.qp_state = IBV_QPS_RTS;
    ASSERT_EQ(0, ibv_modify_qp(a_, &attributes, IBV_QP_STATE));
    ASSERT_EQ(0, Receive(b_, 9, {Range(4096, 8)}));
    ASSERT_EQ(0, Send(a_, Wr(6, IBV_WR_SEND), {Range(0, 8)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  }
  EXPECT_FALSE(HasEvent());
}

TEST_F(Flow, ARequestHasItsPlaceUntilItsCompletionIsPolled) {
  for (const ibv_qp_type type : {IBV_QPT_RC, IBV_QPT_UC}) {
    QpOptions options;
    options.type = type;
    options.depth = 48;
    Pair(options);
    for (int round = 0; round < 3; ++round) {
      ibv_send_wr write = Wr(1, IBV_WR_RDMA_WRITE);
      write.wr.rdma = {At(8192), mr_->rkey};
      std::size_t posted = 0;
      int error = 0;
      while (posted < 1000 && (error = Send(a_, write, {Range(0, 8)})) == 0) ++posted;
      EXPECT_EQ(ENOMEM, error);
      EXPECT_EQ(48u, posted);
      for (const ibv_wc& wc : Wait(cq_, posted)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
      // Those without a completion have left theirs when they are done.
      write.send_flags = 0;
      for (int i = 0; i < 200; ++i) {
        while ((error = Send(a_, write, {Range(0, 8)})) == ENOMEM) {
        }
        ASSERT_EQ(0, error);
      }
      // Behind the last of them all are done.
      write.send_flags = IBV_SEND_SIGNALED;
      while ((error = Send(a_, write, {Range(0, 8)})) == ENOMEM) {
      }
      ASSERT_EQ(0, error);
      EXPECT_EQ(IBV_WC_SUCCESS, Wait(cq_, 1).at(0).status);
    }
  }
}

TEST_F(Flow, StepsThatDoNotExistAreRefusedAndChangeNothing) {
  const QpOptions options;
  ibv_qp* qp = MakeQp(options);
  ibv_qp_attr attributes{};
  for (const ibv_qp_state to : {IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQD, IBV_QPS_SQE}) {
    attributes.qp_state = to;
    EXPECT_EQ(EINVAL, ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
    EXPECT_EQ(IBV_QPS_RESET, qp->state);
  }
  EXPECT_EQ(EINVAL, Receive(qp, 1, {Range(0, 8)}));
  EXPECT_EQ(EINVAL, Send(qp, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  ToInit(qp, options);
  EXPECT_EQ(EINVAL, Send(qp, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  EXPECT_EQ(0, Receive(qp, 1, {Range(0, 8)}));
  // Out of the error state leads only the start, which forgets everything.
  ToError(qp);
  EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, Wait(cq_, 1).at(0).status);
  attributes.qp_state = IBV_QPS_RTR;
  EXPECT_EQ(EINVAL, ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
  attributes.qp_state = IBV_QPS_RESET;
  EXPECT_EQ(0, ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
  ToInit(qp, options);
}

}  // namespace
}  // namespace oxmem::nex
