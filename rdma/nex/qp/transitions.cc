#include "rdma/nex/qp/transitions.h"

namespace oxmem::nex {
namespace {

struct Attributes {
  bool allowed = false;
  int needed = 0;
  int optional = 0;
};

bool IsRc(ibv_qp_type type) { return type == IBV_QPT_RC; }
bool IsUd(ibv_qp_type type) { return type == IBV_QPT_UD; }

Attributes ToInit(ibv_qp_type type, bool from_reset) {
  const int all =
      IBV_QP_PKEY_INDEX | IBV_QP_PORT | (IsUd(type) ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS);
  return from_reset ? Attributes{true, all, 0} : Attributes{true, 0, all};
}

Attributes ToRtr(ibv_qp_type type) {
  if (IsUd(type)) return {true, 0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY};
  const int optional = IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX;
  int needed = IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  if (IsRc(type) || type == IBV_QPT_XRC_RECV) {
    needed |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  }
  return {true, needed, optional};
}

// What may come along with RTR -> RTS, RTS -> RTS, SQD -> RTS and SQE -> RTS.
int OptionalInRts(ibv_qp_type type) {
  if (IsUd(type)) return IBV_QP_CUR_STATE | IBV_QP_QKEY;
  const int common =
      IBV_QP_CUR_STATE | IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PATH_MIG_STATE;
  if (IsRc(type) || type == IBV_QPT_XRC_RECV) return common | IBV_QP_MIN_RNR_TIMER;
  return common;
}

Attributes FromRtrToRts(ibv_qp_type type) {
  int needed = IBV_QP_SQ_PSN;
  if (IsRc(type) || type == IBV_QPT_XRC_SEND) {
    needed |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
  } else if (type == IBV_QPT_XRC_RECV) {
    needed |= IBV_QP_TIMEOUT;
  }
  return {true, needed, OptionalInRts(type)};
}

Attributes WithinSqd(ibv_qp_type type) {
  if (IsUd(type)) return {true, 0, IBV_QP_PKEY_INDEX | IBV_QP_QKEY};
  int optional =
      IBV_QP_AV | IBV_QP_ALT_PATH | IBV_QP_ACCESS_FLAGS | IBV_QP_PKEY_INDEX | IBV_QP_PATH_MIG_STATE;
  if (type == IBV_QPT_UC) return {true, 0, optional};
  optional |= IBV_QP_PORT | IBV_QP_TIMEOUT;
  if (type != IBV_QPT_XRC_RECV) {
    optional |= IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
  }
  if (type != IBV_QPT_XRC_SEND) optional |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  return {true, 0, optional};
}

Attributes Find(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to) {
  if (to == IBV_QPS_RESET || to == IBV_QPS_ERR) return {true, 0, 0};
  if (from == IBV_QPS_RESET && to == IBV_QPS_INIT) return ToInit(type, true);
  if (from == IBV_QPS_INIT && to == IBV_QPS_INIT) return ToInit(type, false);
  if (from == IBV_QPS_INIT && to == IBV_QPS_RTR) return ToRtr(type);
  if (from == IBV_QPS_RTR && to == IBV_QPS_RTS) return FromRtrToRts(type);
  if (from == IBV_QPS_RTS && to == IBV_QPS_RTS) return {true, 0, OptionalInRts(type)};
  if (from == IBV_QPS_RTS && to == IBV_QPS_SQD) return {true, 0, IBV_QP_EN_SQD_ASYNC_NOTIFY};
  if (from == IBV_QPS_SQD && to == IBV_QPS_RTS) return {true, 0, OptionalInRts(type)};
  if (from == IBV_QPS_SQD && to == IBV_QPS_SQD) return WithinSqd(type);
  if (from == IBV_QPS_SQE && to == IBV_QPS_RTS && IsUd(type)) return {true, 0, IBV_QP_QKEY};
  if (from == IBV_QPS_SQE && to == IBV_QPS_RTS && type == IBV_QPT_UC) {
    return {true, 0, IBV_QP_ACCESS_FLAGS};
  }
  return {};
}

}  // namespace

bool TransitionAllowed(ibv_qp_type type, ibv_qp_state from, ibv_qp_state to, int mask) {
  const Attributes attributes = Find(type, from, to);
  if (!attributes.allowed) return false;
  if ((mask & attributes.needed) != attributes.needed) return false;
  // CUR_STATE states what the caller believes; it is compared elsewhere.
  const int known = attributes.needed | attributes.optional | IBV_QP_STATE | IBV_QP_CUR_STATE;
  return (mask & ~known) == 0;
}

}  // namespace oxmem::nex
