// The engine's part for single queue pairs: the table, completions, timers, errors.
#include <sys/epoll.h>

#include <algorithm>

#include "rdma/nex/debug.h"
#include "rdma/nex/engine.h"

namespace oxmem::nex {

Qp* Engine::NewQp() {
  const std::lock_guard lock(qps_mutex_);
  if (qps_taken_ == kMaxQps) return nullptr;
  for (std::uint32_t tried = 0; tried < kIndices; ++tried) {
    const std::uint32_t index = next_index_;
    next_index_ = (next_index_ + 1) % kIndices;
    // 0 and 1 are the management queue pairs of every port.
    // The highest is that of datagrams to a group.
    const std::uint32_t number = slot_ << kSlotShift | index;
    if (number < 2 || number == kMulticastQpn) continue;
    Qp* qp = qps_[index].load();
    if (qp == nullptr) {
      qp = new Qp;
      qp->index = index;
      qps_[index].store(qp);
    } else if (qp->taken.load()) {
      continue;
    }
    qp->taken = true;
    ++qps_taken_;
    return qp;
  }
  return nullptr;
}

void Engine::ReleaseQp(Qp* qp) {
  const std::lock_guard lock(qps_mutex_);
  qp->taken = false;
  --qps_taken_;
}

Qp* Engine::FindQp(std::uint32_t qpn) const {
  return (qpn >> kSlotShift) == slot_ ? qps_[qpn % kIndices].load() : nullptr;
}

bool Engine::DeliverCompletions(Qp* qp) {
  bool delivered = true;
  for (const Completion& done : qp->machine->completions()) {
    Cq* cq = qp->send_cq;
    if (done.receive) {
      cq = qp->xrc == nullptr ? qp->recv_cq.load() : qp->xrc->CompletionQueueOf(done.source);
    }
    auto* const slots = done.receive ? nullptr : &qp->unpolled;
    if (cq != nullptr && !PushCompletion(cq, done.wc, done.solicited, slots)) delivered = false;
  }
  qp->machine->completions().clear();
  return delivered;
}

void Engine::Deliver(Qp* qp) {
  QueuePair& machine = *qp->machine;
  if (!DeliverCompletions(qp)) EnterFatal(qp);
  if (machine.TakePeerSeen() && qp->state == IBV_QPS_RTR) {
    PushQpEvent(qp, IBV_EVENT_COMM_EST);
  }
  if (machine.TakeSendFailed()) EnterSendError(qp);
  if (machine.TakeSelfFailed()) {
    NEX_DEBUG(1, "queue pair 0x%x failed", qp->handle()->qp_num);
    EnterError(qp);
    if (machine.TakeAccessError()) {
      PushQpEvent(qp, machine.access_refused() ? IBV_EVENT_QP_ACCESS_ERR : IBV_EVENT_QP_REQ_ERR);
    }
  }
}

void Engine::EnterSendError(Qp* qp) {
  if (qp->state != IBV_QPS_RTS) return;
  qp->state = IBV_QPS_SQE;
  qp->handle()->state = IBV_QPS_SQE;
}

void Engine::EnterFatal(Qp* qp) {
  if (qp->state == IBV_QPS_ERR) return;
  EnterError(qp);
  PushQpEvent(qp, IBV_EVENT_QP_FATAL);
}

void Engine::EnterError(Qp* qp) {
  const bool before = qp->state.exchange(IBV_QPS_ERR) == IBV_QPS_ERR;
  CloseWay(qp);
  qp->handle()->state = IBV_QPS_ERR;
  qp->connect_at = Instant::Never();
  if (qp->machine) {
    qp->machine->Fail();
    DeliverCompletions(qp);
  }
  if (qp->datagrams) SendHeld(qp);
  FlushReceives(qp);
  if (!before && qp->srq != nullptr) PushQpEvent(qp, IBV_EVENT_QP_LAST_WQE_REACHED);
}

void Engine::FlushReceives(Qp* qp) {
  if (!qp->own_receives) return;
  ReceiveWork work;
  bool limit;
  while (qp->own_receives->Take(&work, nullptr, &limit)) {
    ibv_wc wc{};
    wc.wr_id = work.wr_id;
    wc.status = IBV_WC_WR_FLUSH_ERR;
    wc.opcode = IBV_WC_RECV;
    wc.qp_num = qp->handle()->qp_num;
    PushCompletion(qp->recv_cq, wc, true);
  }
}

// Of datagrams nothing is ever under way.
void Engine::TellDrained(Qp* qp) {
  if (qp->state != IBV_QPS_SQD || !qp->drain_notify) return;
  if (qp->machine && !qp->machine->drained()) return;
  qp->drain_notify = false;
  PushQpEvent(qp, IBV_EVENT_SQ_DRAINED);
}

void Engine::Pump(Qp* qp, bool acknowledge) {
  if (!qp->machine) return TellDrained(qp);
  if (EndsUntouched(qp) || (qp->stream.state() != Stream::State::kClosed &&
                            !qp->stream.Write(*qp->machine, acknowledge))) {
    StreamEnded(qp);
    return;
  }
  if (qp->stream.state() == Stream::State::kClosed) Hurry(qp);
  Deliver(qp);
  TellDrained(qp);
  if (qp->stream.state() != Stream::State::kClosed) {
    // In the error state nothing more is said; a peer that was refused closes by itself.
    if (qp->machine->wants_close() && !qp->stream.wants_write()) {
      CloseWay(qp);
      qp->stream.Close(true);
      qp->machine->Detach(Now());
      Deliver(qp);
    }
  }
  SetTimer(qp);
}

void Engine::SetTimer(Qp* qp) {
  // The clock is read once for each look, not for each request.
  if (qp->look_at.is_never() && qp->stream.state() == Stream::State::kOpen &&
      qp->machine->peer_timeout() > Duration() && !qp->machine->at_rest()) {
    qp->looked_bytes = qp->machine->bytes_in();
    qp->look_at = Now() + kSilence;
  }
  const Instant wanted = std::min({qp->machine->deadline(), qp->connect_at, qp->look_at});
  if (wanted == qp->timer) return;
  bool earlier;
  {
    const std::lock_guard lock(timers_mutex_);
    earlier = timers_.empty() || wanted < timers_.begin()->first;
    if (!qp->timer.is_never()) timers_.erase({qp->timer, qp});
    if (!wanted.is_never()) timers_.insert({wanted, qp});
    qp->timer = wanted;
  }
  if (earlier && !wanted.is_never() && pthread_equal(pthread_self(), thread_) == 0) Wake();
}

void Engine::RunTimers() {
  const Instant now = Now();
  std::vector<Qp*> due;
  {
    const std::lock_guard lock(timers_mutex_);
    for (const auto& [when, qp] : timers_) {
      if (when > now) break;
      due.push_back(qp);
    }
  }
  for (Qp* qp : due) {
    const QpLock lock(*this, qp);
    if (!qp->alive || !qp->machine) continue;
    if (now >= qp->connect_at) {
      qp->connect_at = Instant::Never();
      TryConnect(qp);
    }
    if (now >= qp->look_at) LookAfterPeer(qp);
    qp->machine->OnDeadline(now);
    Pump(qp, true);
  }
  const std::lock_guard lock(pending_mutex_);
  std::erase_if(pending_, [now](const auto& entry) { return entry.second.deadline <= now; });
}

bool QpReceives::Take(ReceiveWork* work) {
  bool limit_reached;
  const bool taken = queue_->Take(work, qp_, &limit_reached);
  if (limit_reached && shared_ != nullptr) {
    ibv_async_event event{};
    event.event_type = IBV_EVENT_SRQ_LIMIT_REACHED;
    event.element.srq = &shared_->base;
    PushAsync(shared_->base.context, event);
  }
  return taken;
}

}  // namespace oxmem::nex
