#include "rdma/nex/qp/transitions.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace oxmem::nex {
namespace {

constexpr int kEvery = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS |
                       IBV_QP_QKEY | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                       IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER | IBV_QP_TIMEOUT |
                       IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN |
                       IBV_QP_MAX_QP_RD_ATOMIC;

// Some mask exists with which the step is allowed.
bool Possible(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to) {
  for (int dropped = 0; dropped < (1 << 16); ++dropped) {
    int mask = IBV_QP_STATE;
    int bit = 0;
    for (int flag = 1; flag <= kEvery; flag <<= 1) {
      if ((kEvery & flag) == 0 || flag == IBV_QP_STATE) continue;
      if ((dropped >> bit++ & 1) == 0) mask |= flag;
    }
    if (TransitionAllowed(type, from, to, mask)) return true;
  }
  return false;
}

TEST(Transitions, ExactlyTheStepsOfTheSpecificationExist) {
  using Step = std::pair<ibv_qp_state, ibv_qp_state>;
  const std::set<Step> legal = {{IBV_QPS_RESET, IBV_QPS_INIT}, {IBV_QPS_INIT, IBV_QPS_INIT},
                                {IBV_QPS_INIT, IBV_QPS_RTR},   {IBV_QPS_RTR, IBV_QPS_RTS},
                                {IBV_QPS_RTS, IBV_QPS_RTS},    {IBV_QPS_RTS, IBV_QPS_SQD},
                                {IBV_QPS_SQD, IBV_QPS_RTS},    {IBV_QPS_SQD, IBV_QPS_SQD}};
  for (const ibv_qp_type type : {IBV_QPT_RC, IBV_QPT_UD}) {
    for (int from = IBV_QPS_RESET; from <= IBV_QPS_ERR; ++from) {
      for (int to = IBV_QPS_RESET; to <= IBV_QPS_ERR; ++to) {
        const Step step{static_cast<ibv_qp_state>(from), static_cast<ibv_qp_state>(to)};
        const bool ends = to == IBV_QPS_RESET || to == IBV_QPS_ERR;
        const bool sqe = type == IBV_QPT_UD && step == Step{IBV_QPS_SQE, IBV_QPS_RTS};
        EXPECT_EQ(ends || sqe || legal.contains(step), Possible(type, step.first, step.second))
            << "type " << type << " from " << from << " to " << to;
      }
    }
  }
}

TEST(Transitions, AMissingOrAForeignAttributeIsRefused) {
  const int init = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
  EXPECT_TRUE(TransitionAllowed(IBV_QPT_RC, IBV_QPS_RESET, IBV_QPS_INIT, init));
  EXPECT_FALSE(TransitionAllowed(IBV_QPT_RC, IBV_QPS_RESET, IBV_QPS_INIT, init & ~IBV_QP_PORT));
  EXPECT_FALSE(TransitionAllowed(IBV_QPT_RC, IBV_QPS_RESET, IBV_QPS_INIT, init | IBV_QP_QKEY));
  EXPECT_FALSE(TransitionAllowed(IBV_QPT_UD, IBV_QPS_RESET, IBV_QPS_INIT, init));
  const int rtr = IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  EXPECT_TRUE(TransitionAllowed(IBV_QPT_UC, IBV_QPS_INIT, IBV_QPS_RTR, rtr));
  EXPECT_FALSE(TransitionAllowed(IBV_QPT_RC, IBV_QPS_INIT, IBV_QPS_RTR, rtr));
}

}  // namespace
}  // namespace oxmem::nex
