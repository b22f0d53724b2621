#include "rdma/nex/qp/transitions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace oxmem::nex {
namespace {

// IBV_QP_* in short.
constexpr int kKey = IBV_QP_PKEY_INDEX, kPort = IBV_QP_PORT, kAccess = IBV_QP_ACCESS_FLAGS;
constexpr int kQkey = IBV_QP_QKEY, kAlt = IBV_QP_ALT_PATH, kMig = IBV_QP_PATH_MIG_STATE;
constexpr int kPath = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
constexpr int kAnswers = IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
constexpr int kRetries = IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY;
constexpr int kPsn = IBV_QP_SQ_PSN, kReads = IBV_QP_MAX_QP_RD_ATOMIC;
constexpr int kRnr = IBV_QP_MIN_RNR_TIMER, kNotify = IBV_QP_EN_SQD_ASYNC_NOTIFY;

struct Step {
  ibv_qp_state from;
  ibv_qp_state to;
  int needed;
  int optional;
};

// The steps of the specification (11.2.5.2), as the kernel has them too. To RESET and to ERR
// every state goes, without attributes.
std::vector<Step> StepsOf(ibv_qp_type type) {
  const auto make = [](int init, Step rtr, Step rts, int moving, Step sqd) {
    return std::vector<Step>{{IBV_QPS_RESET, IBV_QPS_INIT, init, 0},
                             {IBV_QPS_INIT, IBV_QPS_INIT, 0, init},
                             rtr,
                             rts,
                             {IBV_QPS_RTS, IBV_QPS_RTS, 0, moving},
                             {IBV_QPS_RTS, IBV_QPS_SQD, 0, kNotify},
                             {IBV_QPS_SQD, IBV_QPS_RTS, 0, moving},
                             sqd};
  };
  const auto rtr = [](int needed, int optional) {
    return Step{IBV_QPS_INIT, IBV_QPS_RTR, needed, optional};
  };
  const auto rts = [](int needed, int optional) {
    return Step{IBV_QPS_RTR, IBV_QPS_RTS, needed, optional};
  };
  const auto sqd = [](int optional) { return Step{IBV_QPS_SQD, IBV_QPS_SQD, 0, optional}; };
  constexpr int kConnected = kKey | kPort | kAccess;
  constexpr int kMoving = kAlt | kAccess | kMig;
  constexpr int kHeld = IBV_QP_AV | kAlt | kAccess | kKey | kMig;
  std::vector<Step> steps;
  switch (type) {
    case IBV_QPT_RC:
      return make(kConnected, rtr(kPath | kAnswers, kAlt | kAccess | kKey),
                  rts(kRetries | kReads | kPsn, kMoving | kRnr), kMoving | kRnr,
                  sqd(kHeld | kPort | kRetries | kReads | kAnswers));
    case IBV_QPT_UC:
      steps = make(kConnected, rtr(kPath, kAlt | kAccess | kKey), rts(kPsn, kMoving), kMoving,
                   sqd(kHeld));
      steps.push_back({IBV_QPS_SQE, IBV_QPS_RTS, 0, kAccess});
      return steps;
    case IBV_QPT_UD:
      steps = make(kKey | kPort | kQkey, rtr(0, kKey | kQkey), rts(kPsn, kQkey), kQkey,
                   sqd(kKey | kQkey));
      steps.push_back({IBV_QPS_SQE, IBV_QPS_RTS, 0, kQkey});
      return steps;
    case IBV_QPT_XRC_SEND:
      return make(kConnected, rtr(kPath, kAlt | kAccess | kKey),
                  rts(kRetries | kReads | kPsn, kMoving), kMoving,
                  sqd(kHeld | kPort | kRetries | kReads));
    case IBV_QPT_XRC_RECV:
      return make(kConnected, rtr(kPath | kAnswers, kAlt | kAccess | kKey),
                  rts(IBV_QP_TIMEOUT | kPsn, kMoving | kRnr), kMoving | kRnr,
                  sqd(kHeld | kPort | IBV_QP_TIMEOUT | kAnswers));
    default:
      return steps;
  }
}

class Transitions : public testing::TestWithParam<ibv_qp_type> {
 protected:
  static bool Allowed(ibv_qp_state from, ibv_qp_state to, int mask) {
    return TransitionAllowed(GetParam(), from, to, mask | IBV_QP_STATE);
  }
};

INSTANTIATE_TEST_SUITE_P(Types, Transitions,
                         testing::Values(IBV_QPT_RC, IBV_QPT_UC, IBV_QPT_UD, IBV_QPT_XRC_SEND,
                                         IBV_QPT_XRC_RECV));

// Every pair of states, and for each of them every attribute.
TEST_P(Transitions, ExactlyTheStepsOfTheSpecificationExist) {
  const std::vector<Step> steps = StepsOf(GetParam());
  for (int i = IBV_QPS_RESET; i <= IBV_QPS_ERR; ++i) {
    for (int j = IBV_QPS_RESET; j <= IBV_QPS_ERR; ++j) {
      const auto from = static_cast<ibv_qp_state>(i);
      const auto to = static_cast<ibv_qp_state>(j);
      SCOPED_TRACE(testing::Message() << "from " << i << " to " << j);
      Step step{from, to, 0, 0};
      const auto found = std::find_if(steps.begin(), steps.end(), [&](const Step& known) {
        return known.from == from && known.to == to;
      });
      if (found != steps.end()) step = *found;
      const bool exists = found != steps.end() || to == IBV_QPS_RESET || to == IBV_QPS_ERR;
      EXPECT_EQ(exists, Allowed(from, to, step.needed));
      EXPECT_EQ(exists, Allowed(from, to, step.needed | step.optional | IBV_QP_CUR_STATE));
      for (int flag = IBV_QP_CUR_STATE; flag <= IBV_QP_RATE_LIMIT; flag <<= 1) {
        SCOPED_TRACE(testing::Message() << "attribute " << flag);
        const bool known = ((step.optional | IBV_QP_CUR_STATE) & flag) != 0;
        if ((step.needed & flag) != 0) {
          EXPECT_FALSE(Allowed(from, to, step.needed & ~flag));
        } else {
          EXPECT_EQ(exists && known, Allowed(from, to, step.needed | flag));
        }
      }
    }
  }
}

}  // namespace
}  // namespace oxmem::nex
