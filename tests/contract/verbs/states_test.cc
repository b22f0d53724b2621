// The states of a queue pair, what objects hold each other, and what a device says of itself.
#include <errno.h>
#include <gtest/gtest.h>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

using VerbsStates = VerbsTest;

int Move(ibv_qp* qp, ibv_qp_state to, int mask = 0) {
  ibv_qp_attr attributes{};
  attributes.qp_state = to;
  attributes.port_num = 1;
  return ibv_modify_qp(qp, &attributes, mask | IBV_QP_STATE);
}

ibv_qp_state StateOf(ibv_qp* qp) {
  ibv_qp_attr attributes{};
  ibv_qp_init_attr init{};
  EXPECT_EQ(0, ibv_query_qp(qp, &attributes, IBV_QP_STATE, &init));
  return attributes.qp_state;
}

TEST_F(VerbsStates, StepsCannotBeLeftOut) {
  for (const ibv_qp_type type : {IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD}) {
    QpOptions options;
    options.type = type;
    ibv_qp* qp = MakeQp(options);
    EXPECT_EQ(IBV_QPS_RESET, StateOf(qp));
    for (const auto state : {IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPS_SQD, IBV_QPS_SQE}) {
      EXPECT_EQ(EINVAL, Move(qp, state)) << type << " to " << state;
      EXPECT_EQ(IBV_QPS_RESET, StateOf(qp));
    }
    ToInit(qp, options);
    EXPECT_EQ(IBV_QPS_INIT, StateOf(qp));
    for (const auto state : {IBV_QPS_RTS, IBV_QPS_SQD, IBV_QPS_SQE}) {
      EXPECT_EQ(EINVAL, Move(qp, state)) << type << " to " << state;
    }
    EXPECT_EQ(IBV_QPS_INIT, StateOf(qp));
  }
}

TEST_F(VerbsStates, AttributesThatAStepNeedsMustBeGiven) {
  ibv_qp* qp = MakeQp({});
  EXPECT_EQ(EINVAL, Move(qp, IBV_QPS_INIT));
  EXPECT_EQ(EINVAL, Move(qp, IBV_QPS_INIT, IBV_QP_PKEY_INDEX | IBV_QP_PORT));
  EXPECT_EQ(EINVAL, Move(qp, IBV_QPS_INIT,
                         IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS | IBV_QP_SQ_PSN));
  ToInit(qp, {});
  EXPECT_EQ(EINVAL, Move(qp, IBV_QPS_RTR));
  EXPECT_EQ(EINVAL, Move(qp, IBV_QPS_RTR, IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN));
  EXPECT_EQ(IBV_QPS_INIT, StateOf(qp));
}

TEST_F(VerbsStates, ErrorIsReachedFromReset) {
  ibv_qp* qp = MakeQp({});
  EXPECT_EQ(0, Move(qp, IBV_QPS_ERR));
  EXPECT_EQ(IBV_QPS_ERR, StateOf(qp));
}

TEST_F(VerbsStates, ErrorAndResetAreReachedFromEveryOtherState) {
  QpOptions options;
  ibv_qp* a = MakeQp(options);
  ibv_qp* b = MakeQp(options);
  for (const bool connected : {false, true}) {
    if (connected) {
      Connect(a, b, options);
    } else {
      ToInit(a, options);
    }
    EXPECT_EQ(0, Move(a, IBV_QPS_ERR)) << connected;
    EXPECT_EQ(IBV_QPS_ERR, StateOf(a));
    EXPECT_EQ(EINVAL, Move(a, IBV_QPS_RTS));
    EXPECT_EQ(0, Move(a, IBV_QPS_RESET));
    EXPECT_EQ(IBV_QPS_RESET, StateOf(a));
  }
  // And from there on it works like a new one.
  EXPECT_EQ(0, Move(b, IBV_QPS_RESET));
  Connect(a, b, options);
  ASSERT_EQ(0, Receive(b, 1, {Range(0, 8)}));
  ASSERT_EQ(0, Send(a, Wr(2, IBV_WR_SEND), {Range(4096, 8)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
}

TEST_F(VerbsStates, AttributesAreReportedAsTheyWereSet) {
  QpOptions options;
  options.rnr_retry = 3;
  options.timeout = 9;
  options.retry_count = 5;
  options.reads = 4;
  ibv_qp* a = MakeQp(options);
  ibv_qp* b = MakeQp(options);
  Connect(a, b, options);
  ibv_qp_attr attributes{};
  ibv_qp_init_attr init{};
  ASSERT_EQ(0, ibv_query_qp(a, &attributes, 0x1fffff, &init));
  EXPECT_EQ(IBV_QPS_RTS, attributes.qp_state);
  EXPECT_EQ(b->qp_num, attributes.dest_qp_num);
  EXPECT_EQ(3, attributes.rnr_retry);
  EXPECT_EQ(9, attributes.timeout);
  EXPECT_EQ(5, attributes.retry_cnt);
  EXPECT_EQ(4, attributes.max_rd_atomic);
  EXPECT_EQ(4, attributes.max_dest_rd_atomic);
  EXPECT_EQ(12, attributes.min_rnr_timer);
  EXPECT_EQ(IBV_MTU_1024, attributes.path_mtu);
  EXPECT_EQ(1, attributes.ah_attr.is_global);
  EXPECT_EQ(gid_index_, attributes.ah_attr.grh.sgid_index);
  EXPECT_EQ(cq_, init.send_cq);
  EXPECT_EQ(IBV_QPT_RC, init.qp_type);
  EXPECT_GE(init.cap.max_send_wr, options.depth);
}

TEST_F(VerbsStates, WhatIsInUseIsNotDestroyed) {
  MakeQp({});
  EXPECT_EQ(EBUSY, ibv_destroy_cq(cq_));
  EXPECT_EQ(EBUSY, ibv_dealloc_pd(pd_));
}

TEST_F(VerbsStates, LimitsAreKept) {
  ibv_device_attr device{};
  ASSERT_EQ(0, ibv_query_device(context_, &device));
  errno = 0;
  EXPECT_EQ(nullptr, ibv_create_cq(context_, device.max_cqe + 1, nullptr, nullptr, 0));
  EXPECT_EQ(EINVAL, errno);
  EXPECT_EQ(nullptr, ibv_create_cq(context_, 1, nullptr, nullptr, context_->num_comp_vectors));
  ibv_qp_init_attr init{};
  init.qp_type = IBV_QPT_RC;
  init.send_cq = init.recv_cq = cq_;
  init.cap = {static_cast<std::uint32_t>(device.max_qp_wr) + 1, 1, 1, 1, 0};
  EXPECT_EQ(nullptr, ibv_create_qp(pd_, &init));
  init.cap = {1, 1, static_cast<std::uint32_t>(device.max_sge) + 1, 1, 0};
  EXPECT_EQ(nullptr, ibv_create_qp(pd_, &init));
  // Rights to write for peers include the own one.
  EXPECT_EQ(nullptr, ibv_reg_mr(pd_, buffer_.data(), 64, IBV_ACCESS_REMOTE_WRITE));
  ibv_port_attr port{};
  EXPECT_NE(0, ibv_query_port(context_, 2, &port));
  EXPECT_EQ(0, ibv_query_port(context_, 1, &port));
  EXPECT_EQ(IBV_PORT_ACTIVE, port.state);
  EXPECT_EQ(IBV_LINK_LAYER_ETHERNET, port.link_layer);
}

}  // namespace
}  // namespace oxmem::nex
