// Asynchronous events, memory windows and the builders of extended queue pairs.
#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

constexpr std::size_t kThere = 512 << 10;

class VerbsEvents : public VerbsTest {
 protected:
  ibv_send_wr Write(std::uint64_t id, std::uint32_t key) const {
    ibv_send_wr wr = Wr(id, IBV_WR_RDMA_WRITE);
    wr.wr.rdma = {At(kThere), key};
    return wr;
  }
  void DestroyQps() {
    for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
    qps_.clear();
  }
};

TEST_F(VerbsEvents, AnOverrunCompletionQueueIsReported) {
  ibv_cq* small = ibv_create_cq(context_, 4, nullptr, nullptr, 0);
  ASSERT_NE(nullptr, small);
  QpOptions options;
  options.depth = static_cast<std::uint32_t>(small->cqe) + 16;
  ibv_qp* here = MakeQp(options, small);
  ibv_qp* there = MakeQp(options);
  Connect(here, there, options);
  for (std::uint32_t i = 0; i < options.depth; ++i) {
    ASSERT_EQ(0, Send(here, Write(i, mr_->rkey), {Range(0, 8)}));
  }
  const auto event = NextEvent();
  ASSERT_TRUE(event);
  EXPECT_EQ(IBV_EVENT_CQ_ERR, event->event_type);
  EXPECT_EQ(small, event->element.cq);
  DestroyQps();
  EXPECT_EQ(0, ibv_destroy_cq(small));
}

TEST_F(VerbsEvents, ASharedQueueSaysOnceThatItRunsLow) {
  ibv_srq_init_attr init{};
  init.attr = {8, 1, 0};
  ibv_srq* srq = ibv_create_srq(pd_, &init);
  ASSERT_NE(nullptr, srq);
  for (std::uint64_t i = 0; i < 4; ++i) {
    ibv_sge sge = Range(kThere + i * 64, 64);
    ibv_recv_wr wr{i, nullptr, &sge, 1};
    ibv_recv_wr* bad = nullptr;
    ASSERT_EQ(0, ibv_post_srq_recv(srq, &wr, &bad));
  }
  ibv_srq_attr limit{};
  limit.srq_limit = 3;
  ASSERT_EQ(0, ibv_modify_srq(srq, &limit, IBV_SRQ_LIMIT));
  QpOptions plain, shared;
  shared.srq = srq;
  ibv_qp* here = MakeQp(plain);
  ibv_qp* there = MakeQp(shared);
  Connect(here, there, plain);
  ASSERT_EQ(0, Send(here, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  EXPECT_EQ(2u, Wait(cq_, 2).size());
  EXPECT_FALSE(HasEvent());  // three are left
  ASSERT_EQ(0, Send(here, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  EXPECT_EQ(2u, Wait(cq_, 2).size());
  const auto event = NextEvent();
  ASSERT_TRUE(event);
  EXPECT_EQ(IBV_EVENT_SRQ_LIMIT_REACHED, event->event_type);
  EXPECT_EQ(srq, event->element.srq);
  ASSERT_EQ(0, ibv_query_srq(srq, &limit));
  EXPECT_EQ(0u, limit.srq_limit);
  ASSERT_EQ(0, Send(here, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
  EXPECT_EQ(2u, Wait(cq_, 2).size());
  EXPECT_FALSE(HasEvent());
  DestroyQps();
  EXPECT_EQ(0, ibv_destroy_srq(srq));
}

TEST_F(VerbsEvents, AWindowOpensAndIsClosedByTheSenderOfAnInvalidation) {
  const QpOptions options;
  ibv_qp* here = MakeQp(options);
  ibv_qp* there = MakeQp(options);
  Connect(here, there, options);
  ibv_mw* window = ibv_alloc_mw(pd_, IBV_MW_TYPE_2);
  ASSERT_NE(nullptr, window);
  ibv_send_wr bind = Wr(1, IBV_WR_BIND_MW);
  bind.bind_mw.mw = window;
  bind.bind_mw.rkey = ibv_inc_rkey(window->rkey);
  bind.bind_mw.bind_info = {mr_, At(kThere), 64, IBV_ACCESS_REMOTE_WRITE};
  ASSERT_EQ(0, Send(there, bind, {}));
  const auto bound = Wait(cq_, 1);
  ASSERT_EQ(1u, bound.size());
  EXPECT_EQ(IBV_WC_SUCCESS, bound[0].status);
  EXPECT_EQ(IBV_WC_BIND_MW, bound[0].opcode);
  const std::uint32_t key = bind.bind_mw.rkey;
  ASSERT_EQ(0, Send(here, Write(2, key), {Range(0, 64)}));
  EXPECT_EQ(IBV_WC_SUCCESS, Wait(cq_, 1).front().status);

  ASSERT_EQ(0, Receive(there, 3, {Range(kThere + 4096, 8)}));
  ibv_send_wr close = Wr(4, IBV_WR_SEND_WITH_INV);
  close.invalidate_rkey = key;
  ASSERT_EQ(0, Send(here, close, {Range(0, 8)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) {
    EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
    if (wc.qp_num != there->qp_num) continue;
    EXPECT_NE(0u, wc.wc_flags & IBV_WC_WITH_INV);
    EXPECT_EQ(key, wc.invalidated_rkey);
  }
  ASSERT_EQ(0, Send(here, Write(5, key), {Range(0, 8)}));
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, Wait(cq_, 1).front().status);
  DestroyQps();
  EXPECT_EQ(0, ibv_dealloc_mw(window));
}

TEST_F(VerbsEvents, BuildersPostWhatTheyWereTold) {
  ibv_qp_init_attr_ex init{};
  init.qp_type = IBV_QPT_RC;
  init.send_cq = init.recv_cq = cq_;
  init.cap = {16, 16, 2, 2, 32};
  init.pd = pd_;
  init.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
  init.send_ops_flags = IBV_QP_EX_WITH_SEND_WITH_IMM | IBV_QP_EX_WITH_RDMA_WRITE;
  ibv_qp* here = ibv_create_qp_ex(context_, &init);
  ASSERT_NE(nullptr, here);
  qps_.push_back(here);
  ibv_qp* there = MakeQp({});
  Connect(here, there, {});
  ibv_qp_ex* builder = ibv_qp_to_qp_ex(here);
  ASSERT_NE(nullptr, builder);

  ibv_wr_start(builder);  // is taken back
  builder->wr_id = 1;
  builder->wr_flags = IBV_SEND_SIGNALED;
  ibv_wr_rdma_write(builder, mr_->rkey, At(kThere));
  ibv_wr_set_sge(builder, mr_->lkey, At(0), 8);
  ibv_wr_abort(builder);

  ASSERT_EQ(0, Receive(there, 9, {Range(kThere + 4096, 32)}));
  std::memcpy(buffer_.data(), "written", 8);
  char text[] = "inline";
  ibv_wr_start(builder);
  builder->wr_id = 2;
  ibv_wr_rdma_write(builder, mr_->rkey, At(kThere));
  ibv_wr_set_sge(builder, mr_->lkey, At(0), 8);
  builder->wr_id = 3;
  ibv_wr_send_imm(builder, htonl(77));
  ibv_wr_set_inline_data(builder, text, sizeof text);
  ASSERT_EQ(0, ibv_wr_complete(builder));
  std::memset(text, 0, sizeof text);

  std::uint64_t next = 2;
  for (const ibv_wc& wc : Wait(cq_, 3)) {
    EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
    if (wc.qp_num == here->qp_num) {
      EXPECT_EQ(next++, wc.wr_id);
    } else {
      EXPECT_EQ(htonl(77), wc.imm_data);
    }
  }
  EXPECT_STREQ("written", reinterpret_cast<const char*>(&buffer_[kThere]));
  EXPECT_STREQ("inline", reinterpret_cast<const char*>(&buffer_[kThere + 4096]));
}

}  // namespace
}  // namespace oxmem::nex
