// Shared receive queues and XRC domains.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {

void ForgetEvents(ibv_context* context, const void* subject);
void WaitForEventAcks(pthread_mutex_t* mutex, pthread_cond_t* cond, const std::uint32_t* completed,
                      std::uint32_t reported);

namespace {

Srq* From(ibv_srq* srq) { return reinterpret_cast<Srq*>(srq); }
Pd* From(ibv_pd* pd) { return reinterpret_cast<Pd*>(pd); }

// Not alive yet, and counted nowhere.
Srq* PrepareSrq(ibv_pd* pd, void* srq_context, const ibv_srq_attr& attributes) {
  if (!Usable(From(pd), "ibv_create_srq")) return nullptr;
  if (attributes.max_wr == 0 || attributes.max_wr > static_cast<unsigned>(kMaxQueueDepth) ||
      attributes.max_sge > static_cast<unsigned>(kMaxSges)) {
    errno = EINVAL;
    return nullptr;
  }
  auto queue = std::make_shared<ReceiveQueue>(
      attributes.max_wr, static_cast<int>(attributes.max_sge), From(pd)->domain);
  Srq* srq = Renewed(Library::Get()->objects().receive_queues.Take());
  srq->queue = std::move(queue);
  srq->base.context = pd->context;
  srq->base.srq_context = srq_context;
  srq->base.pd = pd;
  pthread_mutex_init(&srq->base.mutex, nullptr);
  pthread_cond_init(&srq->base.cond, nullptr);
  return srq;
}

ibv_srq* Finish(Srq* srq) {
  From(srq->base.pd)->users.fetch_add(1);
  srq->alive = true;
  return &srq->base;
}

}  // namespace

ibv_srq* CreateSrq(ibv_pd* pd, ibv_srq_init_attr* attributes) {
  Srq* srq = PrepareSrq(pd, attributes->srq_context, attributes->attr);
  if (srq == nullptr) return nullptr;
  attributes->attr.max_sge = static_cast<std::uint32_t>(srq->queue->max_sges());
  return Finish(srq);
}

ibv_srq* CreateSrqEx(ibv_context* context, ibv_srq_init_attr_ex* attributes) {
  if (IsNull(attributes, "ibv_create_srq_ex", "attributes")) return nullptr;
  constexpr std::uint32_t kNeeded =
      IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
  if (attributes->comp_mask != kNeeded || attributes->srq_type != IBV_SRQT_XRC) {
    errno = attributes->srq_type == IBV_SRQT_TM ? EOPNOTSUPP : EINVAL;
    return nullptr;
  }
  if (attributes->cq == nullptr || attributes->xrcd == nullptr || attributes->pd == nullptr) {
    errno = EINVAL;
    return nullptr;
  }
  if (!Usable(reinterpret_cast<Cq*>(attributes->cq), "ibv_create_srq_ex") ||
      !Usable(reinterpret_cast<Xrcd*>(attributes->xrcd), "ibv_create_srq_ex")) {
    return nullptr;
  }
  if (!SameDevice(attributes->cq->context, context) ||
      !SameDevice(attributes->pd->context, context)) {
    errno = EINVAL;
    return nullptr;
  }
  Srq* srq = PrepareSrq(attributes->pd, attributes->srq_context, attributes->attr);
  if (srq == nullptr) return nullptr;
  srq->cq = reinterpret_cast<Cq*>(attributes->cq);
  srq->xrcd = attributes->xrcd;
  Library::Get()->AddSharedQueue(srq);
  srq->cq->users.fetch_add(1);
  reinterpret_cast<Xrcd*>(srq->xrcd)->users.fetch_add(1);
  return Finish(srq);
}

int ModifySrq(ibv_srq* handle, ibv_srq_attr* attributes, int mask) {
  if (!Usable(From(handle), "ibv_modify_srq")) return EINVAL;
  ReceiveQueue& queue = *From(handle)->queue;
  if ((mask & ~(IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT)) != 0) return EINVAL;
  const bool limits = (mask & IBV_SRQ_LIMIT) != 0;
  const bool resizes = (mask & IBV_SRQ_MAX_WR) != 0;
  // Both or nothing.
  if (limits && attributes->srq_limit > (resizes ? attributes->max_wr : queue.depth())) {
    return EINVAL;
  }
  if (resizes) {
    if (attributes->max_wr > static_cast<unsigned>(kMaxQueueDepth)) return EINVAL;
    if (const int error = queue.Resize(attributes->max_wr); error != 0) return error;
  }
  if (limits && !queue.SetLimit(attributes->srq_limit)) return EINVAL;
  return 0;
}

int QuerySrq(ibv_srq* handle, ibv_srq_attr* attributes) {
  if (!Usable(From(handle), "ibv_query_srq")) return EINVAL;
  ReceiveQueue& queue = *From(handle)->queue;
  attributes->max_wr = queue.depth();
  attributes->max_sge = static_cast<std::uint32_t>(queue.max_sges());
  attributes->srq_limit = queue.limit();
  return 0;
}

int DestroySrq(ibv_srq* handle) {
  Srq* srq = From(handle);
  if (!Usable(srq, "ibv_destroy_srq")) return EINVAL;
  if (srq->users.load() != 0) return EBUSY;
  srq->alive = false;
  ForgetEvents(handle->context, handle);
  WaitForEventAcks(&handle->mutex, &handle->cond, &handle->events_completed, srq->async_reported);
  Library::Get()->RemoveSharedQueue(srq);
  // Whoever is just looking at an XRC queue still finds one.
  srq->queue->Close();
  if (srq->cq != nullptr) srq->cq->users.fetch_sub(1);
  if (srq->xrcd != nullptr) reinterpret_cast<Xrcd*>(srq->xrcd)->users.fetch_sub(1);
  From(handle->pd)->users.fetch_sub(1);
  Library::Get()->objects().receive_queues.Give(srq);
  return 0;
}

int GetSrqNumber(ibv_srq* handle, std::uint32_t* number) {
  if (IsNull(number, "ibv_get_srq_num", "number")) return EINVAL;
  if (!Usable(From(handle), "ibv_get_srq_num") || From(handle)->number == 0) return EINVAL;
  *number = From(handle)->number;
  return 0;
}

int PostSrqReceive(ibv_srq* handle, ibv_recv_wr* wr, ibv_recv_wr** bad) {
  std::vector<ReceiveQueue::Waiter> waiters;
  int error = Usable(From(handle), "ibv_post_srq_recv") ? 0 : EINVAL;
  if (error != 0) SetBad(bad, wr);
  for (; wr != nullptr && error == 0; wr = wr->next) {
    error = From(handle)->queue->Post(*wr, &waiters);
    if (error != 0) SetBad(bad, wr);
  }
  if (!waiters.empty()) Library::Get()->engine().NotifyReceives(waiters);
  return error;
}

// A domain that is opened through a file is one domain for all who open it in this process; other
// processes have their own (docs/nex.md).
ibv_xrcd* OpenXrcd(ibv_context* context, ibv_xrcd_init_attr* attributes) {
  if (!Usable(Context::From(context), "ibv_open_xrcd")) return nullptr;
  if (IsNull(attributes, "ibv_open_xrcd", "attributes")) return nullptr;
  constexpr std::uint32_t kNeeded = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
  if (attributes->comp_mask != kNeeded || (attributes->oflags & ~(O_CREAT | O_EXCL)) != 0) {
    errno = EINVAL;
    return nullptr;
  }
  struct stat file {};
  if (attributes->fd != -1 && fstat(attributes->fd, &file) != 0) return nullptr;
  if (attributes->fd == -1 && (attributes->oflags & O_CREAT) == 0) {
    errno = EINVAL;
    return nullptr;
  }
  int error = 0;
  Xrcd* xrcd = Library::Get()->OpenXrcDomain(file.st_dev, file.st_ino, attributes->oflags, &error);
  if (xrcd == nullptr) {
    errno = error;
    return nullptr;
  }
  xrcd->base.context = context;
  Context::From(context)->users.fetch_add(1);
  return &xrcd->base;
}

int CloseXrcd(ibv_xrcd* handle) {
  if (!Usable(reinterpret_cast<Xrcd*>(handle), "ibv_close_xrcd")) return EINVAL;
  Context* context = Context::From(handle->context);
  if (!Library::Get()->CloseXrcDomain(reinterpret_cast<Xrcd*>(handle))) return EBUSY;
  context->users.fetch_sub(1);
  return 0;
}

ReceiveSource* XrcQueues::FindSharedQueue(std::uint32_t number) {
  for (const Known& known : known_) {
    if (known.number == number && !known.queue.receives->closed()) return known.source.get();
  }
  XrcQueue found = Library::Get()->FindSharedQueue(number);
  if (found.srq == nullptr || found.xrcd != &qp_->xrcd->base) return nullptr;
  auto source = std::make_unique<QpReceives>(qp_, found.receives.get(), found.srq);
  known_.push_back({number, std::move(found), std::move(source)});
  return known_.back().source.get();
}

Cq* XrcQueues::CompletionQueueOf(const ReceiveSource* source) const {
  for (const Known& known : known_) {
    if (known.source.get() == source)
      return known.queue.receives->closed() ? nullptr : known.queue.cq;
  }
  return nullptr;
}

void XrcQueues::Forget() {
  for (const Known& known : known_) known.queue.receives->Forget(qp_);
  known_.clear();
}

}  // namespace oxmem::nex
