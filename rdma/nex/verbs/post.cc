// Posting work requests.
#include <errno.h>

#include <cstring>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {
namespace {

std::uint32_t DomainOf(const ibv_pd* pd) { return reinterpret_cast<const Pd*>(pd)->domain; }

// Fills what BIND_MW needs; an errno when the request makes no sense for this window.
int DescribeBind(const Qp& qp, const ibv_send_wr& wr, BindWork* bind) {
  auto* mw = reinterpret_cast<Mw*>(wr.bind_mw.mw);
  const ibv_mw_bind_info& info = wr.bind_mw.bind_info;
  if (mw == nullptr || !Usable(mw, "ibv_post_send")) return EINVAL;
  if (DomainOf(mw->base.pd) != qp.pd->domain) return EINVAL;
  if ((wr.bind_mw.rkey >> 8) != (mw->base.rkey >> 8)) return EINVAL;
  if (info.length != 0 && info.mr == nullptr) return EINVAL;
  if (info.mr != nullptr && !Usable(reinterpret_cast<Mr*>(info.mr), "ibv_post_send")) return EINVAL;
  bind->window = mw->region;
  bind->key = wr.bind_mw.rkey;
  if (info.mr != nullptr) {
    bind->binding.parent = reinterpret_cast<Mr*>(info.mr)->region;
    bind->binding.parent_key = info.mr->lkey;
  }
  bind->binding.address = info.addr;
  bind->binding.length = info.length;
  bind->binding.access = info.mw_access_flags;
  bind->binding.zero_based = (info.mw_access_flags & IBV_ACCESS_ZERO_BASED) != 0;
  bind->binding.qpn = mw->base.type == IBV_MW_TYPE_2 ? qp.base.qp_base.qp_num : 0;
  return 0;
}

// An errno when a datagram is no request, or its address handle none that serves this queue pair.
int CheckDatagram(const Qp& qp, const ibv_send_wr& wr) {
  if (const int error = qp.datagrams->Check(wr); error != 0) return error;
  if (qp.state == IBV_QPS_ERR || qp.state == IBV_QPS_SQE) return 0;  // it is flushed unseen
  const auto* ah = reinterpret_cast<const Ah*>(wr.wr.ud.ah);
  if (ah == nullptr || !Usable(ah, "ibv_post_send")) return EINVAL;
  return DomainOf(ah->base.pd) == qp.pd->domain ? 0 : EINVAL;
}

int PostOne(Qp* qp, const ibv_send_wr& wr, Instant now) {
  if (qp->datagrams) {
    const int error = CheckDatagram(*qp, wr);
    if (error == 0) Library::Get()->engine().PostDatagram(qp, wr);
    return error;
  }
  BindWork bind;
  const BindWork* binding = nullptr;
  if (wr.opcode == IBV_WR_BIND_MW) {
    if (const int error = DescribeBind(*qp, wr, &bind); error != 0) return error;
    binding = &bind;
  }
  return qp->machine->Post(wr, binding, now);
}

// The program's word, which may be any number, read as one.
bool IsKnown(const ibv_wr_opcode& opcode) {
  std::uint32_t number = 0;
  static_assert(sizeof number == sizeof opcode);
  std::memcpy(&number, &opcode, sizeof number);
  return number <= IBV_WR_DRIVER1;
}

bool MaySend(ibv_qp_state state) {
  return state == IBV_QPS_RTS || state == IBV_QPS_SQD || state == IBV_QPS_ERR ||
         state == IBV_QPS_SQE;
}

// A request takes its place in the send queue until its completion was polled.
bool HasRoom(const Qp& qp, std::size_t requests) {
  const std::size_t unfinished = qp.machine ? qp.machine->unfinished() : qp.datagrams->held();
  return qp.unpolled.load(std::memory_order_relaxed) + unfinished + requests <=
         qp.init.cap.max_send_wr;
}

// An errno when anything in the list could not be posted, or not all of it.
int CheckWhole(const Qp& qp, const ibv_send_wr* wr) {
  std::size_t count = 0;
  for (; wr != nullptr; wr = wr->next, ++count) {
    BindWork bind;
    int error = IsKnown(wr->opcode) ? 0 : EINVAL;
    if (error == 0) error = qp.datagrams ? CheckDatagram(qp, *wr) : qp.machine->Check(*wr);
    if (error == 0 && wr->opcode == IBV_WR_BIND_MW) error = DescribeBind(qp, *wr, &bind);
    if (error != 0) return error;
  }
  return HasRoom(qp, count) ? 0 : ENOMEM;
}

// `whole`: all of the list or nothing.
int Post(ibv_qp* handle, ibv_send_wr* wr, ibv_send_wr** bad, bool whole) {
  Qp* qp = Qp::From(handle);
  Engine& engine = Library::Get()->engine();
  const QpLock lock(engine, qp);
  int error = Usable(qp, "ibv_post_send") && MaySend(qp->state) ? 0 : EINVAL;
  if (qp->init.qp_type == IBV_QPT_XRC_RECV) error = EINVAL;
  if (error == 0 && whole) error = CheckWhole(*qp, wr);
  if (error != 0) {
    SetBad(bad, wr);
    return error;
  }
  // The clock is read only for requests that may have to wait for a peer.
  const bool attached = qp->machine && qp->machine->attached();
  const Instant now = attached ? Instant() : Now();
  for (; wr != nullptr; wr = wr->next) {
    if (!IsKnown(wr->opcode) || !HasRoom(*qp, 1)) {
      error = IsKnown(wr->opcode) ? ENOMEM : EINVAL;
      SetBad(bad, wr);
      break;
    }
    if (qp->way.door != nullptr && engine.TryDirect(qp, *wr)) continue;
    error = PostOne(qp, *wr, now);
    if (error == 0) continue;
    SetBad(bad, wr);
    break;
  }
  if (qp->datagrams) {
    engine.DeliverDatagrams(qp);
  } else if (!qp->machine->may_hold()) {
    engine.Pump(qp, true);
  }
  return error;
}

}  // namespace

int PostSend(ibv_qp* qp, ibv_send_wr* wr, ibv_send_wr** bad) { return Post(qp, wr, bad, false); }

int PostWhole(ibv_qp* qp, ibv_send_wr* wr) { return Post(qp, wr, nullptr, true); }

int PostReceive(ibv_qp* handle, ibv_recv_wr* wr, ibv_recv_wr** bad) {
  Qp* qp = Qp::From(handle);
  if (!Usable(qp, "ibv_post_recv") || !qp->own_receives || qp->state == IBV_QPS_RESET) {
    SetBad(bad, wr);
    return EINVAL;
  }
  std::vector<ReceiveQueue::Waiter> waiters;
  int error = 0;
  for (; wr != nullptr; wr = wr->next) {
    error = qp->own_receives->Post(*wr, &waiters);
    if (error == 0) continue;
    SetBad(bad, wr);
    break;
  }
  Engine& engine = Library::Get()->engine();
  if (!waiters.empty()) engine.NotifyReceives(waiters);
  if (qp->state == IBV_QPS_ERR) {
    const QpLock lock(engine, qp);
    if (qp->state == IBV_QPS_ERR) engine.FlushReceives(qp);
  }
  return error;
}

}  // namespace oxmem::nex
