// ibv_modify_qp: the state machine that programs drive, and what each step means here.
#include <errno.h>

#include <cstring>
#include <type_traits>

#include "rdma/nex/debug.h"
#include "rdma/nex/library.h"
#include "rdma/nex/qp/transitions.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {
namespace {

// Time until a request fails whose peer is not there: what the transport timer and its retries
// add up to; the specification lets a device wait up to four times its timer.
Duration PeerTimeout(const ibv_qp_attr& attributes, ibv_qp_type type) {
  if (type == IBV_QPT_UC) return Duration::Seconds(2);
  if (attributes.timeout == 0) return Duration();
  const std::int64_t timer_ns = std::int64_t{4096} << (attributes.timeout & 31);
  return Duration::Nanoseconds(4 * timer_ns) * (attributes.retry_cnt + 1);
}

bool Within(int mask, int flag, bool good) { return (mask & flag) == 0 || good; }

// What a program left in a field, which for one that the mask does not name, or of a program that
// is wrong, need not be a value of its type.
template <typename Enum>
std::underlying_type_t<Enum> NumberIn(const Enum& field) {
  std::underlying_type_t<Enum> number;
  std::memcpy(&number, &field, sizeof number);
  return number;
}

int CheckValues(const Qp& qp, const ibv_qp_attr& a, int mask, const Config& config) {
  bool good = Within(mask, IBV_QP_PORT, a.port_num == 1);
  good = good && Within(mask, IBV_QP_PKEY_INDEX, a.pkey_index == 0);
  const auto mtu = NumberIn(a.path_mtu);
  good = good && Within(mask, IBV_QP_PATH_MTU, mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096);
  good = good && Within(mask, IBV_QP_TIMEOUT, a.timeout < 32);
  good = good && Within(mask, IBV_QP_RETRY_CNT, a.retry_cnt < 8);
  good = good && Within(mask, IBV_QP_RNR_RETRY, a.rnr_retry < 8);
  good = good && Within(mask, IBV_QP_MIN_RNR_TIMER, a.min_rnr_timer < 32);
  good = good && Within(mask, IBV_QP_MAX_QP_RD_ATOMIC, a.max_rd_atomic <= kMaxReadsPerQp);
  good = good && Within(mask, IBV_QP_MAX_DEST_RD_ATOMIC, a.max_dest_rd_atomic <= kMaxReadsPerQp);
  good = good && Within(mask, IBV_QP_CUR_STATE, NumberIn(a.cur_qp_state) == qp.state.load());
  good = good && Within(mask, IBV_QP_ACCESS_FLAGS, (a.qp_access_flags & ~kKnownQpAccess) == 0);
  good = good && Within(mask, IBV_QP_AV, a.ah_attr.port_num == 1);
  good = good &&
         Within(mask, IBV_QP_AV,
                a.ah_attr.is_global == 0 || a.ah_attr.grh.sgid_index < config.addresses.size());
  return good ? 0 : EINVAL;
}

void CopyValues(const ibv_qp_attr& from, int mask, ibv_qp_attr* to) {
  if ((mask & IBV_QP_ACCESS_FLAGS) != 0) to->qp_access_flags = from.qp_access_flags;
  if ((mask & IBV_QP_PKEY_INDEX) != 0) to->pkey_index = from.pkey_index;
  if ((mask & IBV_QP_PORT) != 0) to->port_num = from.port_num;
  if ((mask & IBV_QP_QKEY) != 0) to->qkey = from.qkey;
  if ((mask & IBV_QP_AV) != 0) to->ah_attr = from.ah_attr;
  if ((mask & IBV_QP_PATH_MTU) != 0) to->path_mtu = from.path_mtu;
  if ((mask & IBV_QP_TIMEOUT) != 0) to->timeout = from.timeout;
  if ((mask & IBV_QP_RETRY_CNT) != 0) to->retry_cnt = from.retry_cnt;
  if ((mask & IBV_QP_RNR_RETRY) != 0) to->rnr_retry = from.rnr_retry;
  if ((mask & IBV_QP_RQ_PSN) != 0) to->rq_psn = from.rq_psn;
  if ((mask & IBV_QP_SQ_PSN) != 0) to->sq_psn = from.sq_psn;
  if ((mask & IBV_QP_MAX_QP_RD_ATOMIC) != 0) to->max_rd_atomic = from.max_rd_atomic;
  if ((mask & IBV_QP_MIN_RNR_TIMER) != 0) to->min_rnr_timer = from.min_rnr_timer;
  if ((mask & IBV_QP_MAX_DEST_RD_ATOMIC) != 0) to->max_dest_rd_atomic = from.max_dest_rd_atomic;
  if ((mask & IBV_QP_DEST_QPN) != 0) to->dest_qp_num = from.dest_qp_num & 0xffffff;
  if ((mask & IBV_QP_PATH_MIG_STATE) != 0) to->path_mig_state = from.path_mig_state;
}

void Configure(Qp* qp) {
  if (!qp->machine) return;
  const ibv_qp_attr& attributes = qp->attributes;
  QueuePair::Parameters parameters;
  parameters.requester.max_reads = attributes.max_rd_atomic;
  parameters.requester.rnr_retries = attributes.rnr_retry;
  parameters.access = attributes.qp_access_flags;
  parameters.serves_reads = attributes.max_dest_rd_atomic > 0;
  parameters.rnr_timer = attributes.min_rnr_timer;
  parameters.peer_timeout = PeerTimeout(attributes, qp->init.qp_type);
  qp->machine->Configure(parameters);
  qp->machine->SetSending(qp->state == IBV_QPS_RTS, Now());
}

void EnterReset(Qp* qp, Engine& engine) {
  engine.CloseStream(qp);
  if (qp->machine) qp->machine->Reset();
  if (qp->datagrams) qp->datagrams->ClearHeld();
  if (qp->own_receives) qp->own_receives->Clear();
  PurgeCompletions(qp->send_cq, qp->handle()->qp_num);
  PurgeCompletions(qp->recv_cq, qp->handle()->qp_num);
}

}  // namespace

int ModifyQp(ibv_qp* handle, ibv_qp_attr* attributes, int mask) {
  Qp* qp = Qp::From(handle);
  Library* library = Library::Get();
  Engine& engine = library->engine();
  const QpLock lock(engine, qp);
  if (!Usable(qp, "ibv_modify_qp")) return EINVAL;
  const ibv_qp_state from = qp->state;
  if ((mask & IBV_QP_STATE) != 0 && NumberIn(attributes->qp_state) > IBV_QPS_ERR) return EINVAL;
  const ibv_qp_state to = (mask & IBV_QP_STATE) != 0 ? attributes->qp_state : from;
  if ((mask & IBV_QP_ALT_PATH) != 0 || (mask & IBV_QP_RATE_LIMIT) != 0) return EOPNOTSUPP;
  if (!TransitionAllowed(qp->init.qp_type, from, to, mask)) return EINVAL;
  if (const int error = CheckValues(*qp, *attributes, mask, library->config()); error != 0) {
    return error;
  }
  CopyValues(*attributes, mask, &qp->attributes);
  NEX_DEBUG(2, "queue pair 0x%x: state %d to %d", handle->qp_num, from, to);
  if (to == IBV_QPS_ERR) {
    engine.EnterError(qp);
    engine.Pump(qp, true);
    return 0;
  }
  qp->state = to;
  handle->state = to;
  if (to == IBV_QPS_SQD && from == IBV_QPS_RTS) {
    qp->drain_notify =
        (mask & IBV_QP_EN_SQD_ASYNC_NOTIFY) != 0 && attributes->en_sqd_async_notify != 0;
  }
  if (to == IBV_QPS_RESET) {
    EnterReset(qp, engine);
    return 0;
  }
  if (from == IBV_QPS_SQE && qp->machine) qp->machine->ResumeSending();
  Configure(qp);
  if ((mask & (IBV_QP_ACCESS_FLAGS | IBV_QP_MAX_DEST_RD_ATOMIC)) != 0) engine.ChangeAccess(qp);
  if (from == IBV_QPS_INIT && to == IBV_QPS_RTR && qp->machine) engine.OpenStream(qp);
  if (qp->datagrams && to == IBV_QPS_RTS) engine.SendHeld(qp);
  if (to >= IBV_QPS_RTR) engine.Pump(qp, true);
  return 0;
}

}  // namespace oxmem::nex
