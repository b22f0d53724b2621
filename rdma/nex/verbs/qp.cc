// Making, querying and destroying queue pairs.
#include <errno.h>

#include <algorithm>
#include <memory>

#include "rdma/nex/datagram.h"
#include "rdma/nex/debug.h"
#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {

void ForgetEvents(ibv_context* context, const void* subject);
void WaitForEventAcks(pthread_mutex_t* mutex, pthread_cond_t* cond, const std::uint32_t* completed,
                      std::uint32_t reported);

namespace {

Cq* From(ibv_cq* cq) { return reinterpret_cast<Cq*>(cq); }
Pd* From(ibv_pd* pd) { return reinterpret_cast<Pd*>(pd); }
Srq* From(ibv_srq* srq) { return reinterpret_cast<Srq*>(srq); }

struct Wanted {
  ibv_qp_init_attr init{};
  ibv_pd* pd = nullptr;
  ibv_xrcd* xrcd = nullptr;
  std::uint64_t operations = 0;  // of the builders; 0: none
  bool deaf_to_itself = false;   // IBV_QP_CREATE_BLOCK_SELF_MCAST_LB
  ibv_context* context = nullptr;
};

bool Sends(ibv_qp_type type) { return type != IBV_QPT_XRC_RECV; }
// IBV_QP_EX_WITH_*: what a queue pair of the type can send.
std::uint64_t KnownOperations(ibv_qp_type type) {
  constexpr std::uint64_t kDatagrams = IBV_QP_EX_WITH_SEND | IBV_QP_EX_WITH_SEND_WITH_IMM;
  constexpr std::uint64_t kUnreliable =
      kDatagrams | IBV_QP_EX_WITH_SEND_WITH_INV | IBV_QP_EX_WITH_RDMA_WRITE |
      IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM | IBV_QP_EX_WITH_LOCAL_INV | IBV_QP_EX_WITH_BIND_MW;
  constexpr std::uint64_t kReliable = kUnreliable | IBV_QP_EX_WITH_RDMA_READ |
                                      IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP |
                                      IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD;
  if (type == IBV_QPT_UD) return kDatagrams;
  if (type == IBV_QPT_UC) return kUnreliable;
  return Sends(type) ? kReliable : 0;
}

std::uint32_t KnownFlags(ibv_qp_type type) {
  return type == IBV_QPT_UD ? std::uint32_t{IBV_QP_CREATE_BLOCK_SELF_MCAST_LB} : 0;
}

bool Receives(ibv_qp_type type) { return type != IBV_QPT_XRC_RECV && type != IBV_QPT_XRC_SEND; }

int Check(const Wanted& wanted) {
  constexpr const char* kVerb = "ibv_create_qp";
  const ibv_qp_init_attr& init = wanted.init;
  const bool usable =
      Usable(Context::From(wanted.context), kVerb) &&
      (wanted.pd == nullptr || Usable(From(wanted.pd), kVerb)) &&
      (init.send_cq == nullptr || Usable(From(init.send_cq), kVerb)) &&
      (init.recv_cq == nullptr || Usable(From(init.recv_cq), kVerb)) &&
      (init.srq == nullptr || Usable(From(init.srq), kVerb)) &&
      (wanted.xrcd == nullptr || Usable(reinterpret_cast<const Xrcd*>(wanted.xrcd), kVerb));
  if (!usable) return EINVAL;
  // Not so an XRC domain: openings of the device share it.
  const auto foreign = [&wanted](const auto* object) {
    return object != nullptr && !SameDevice(object->context, wanted.context);
  };
  if (foreign(wanted.pd) || foreign(init.send_cq) || foreign(init.recv_cq) || foreign(init.srq)) {
    return EINVAL;
  }
  switch (init.qp_type) {
    case IBV_QPT_RC:
    case IBV_QPT_UC:
    case IBV_QPT_UD:
    case IBV_QPT_XRC_SEND:
    case IBV_QPT_XRC_RECV:
      break;
    default:
      return EOPNOTSUPP;
  }
  const bool target = init.qp_type == IBV_QPT_XRC_RECV;
  if (target ? wanted.xrcd == nullptr : wanted.pd == nullptr) return EINVAL;
  if (Sends(init.qp_type) && init.send_cq == nullptr) return EINVAL;
  if (Receives(init.qp_type) && init.recv_cq == nullptr) return EINVAL;
  const ibv_qp_cap& cap = init.cap;
  const auto depth = static_cast<std::uint32_t>(kMaxQueueDepth);
  const auto sges = static_cast<std::uint32_t>(kMaxSges);
  if (cap.max_send_wr > depth || cap.max_send_sge > sges || cap.max_inline_data > kMaxInlineBytes) {
    return EINVAL;
  }
  if (init.srq == nullptr && (cap.max_recv_wr > depth || cap.max_recv_sge > sges)) return EINVAL;
  return 0;
}

void Attach(Cq* cq, Qp* qp) {
  cq->attached.fetch_add(1);
  const std::lock_guard lock(cq->mutex);
  for (auto& slot : cq->direct) {
    if (slot.load() != nullptr) continue;
    slot.store(qp);
    return;
  }
  cq->elsewhere.fetch_add(1);
}

void Detach(Cq* cq, Qp* qp) {
  cq->attached.fetch_sub(1);
  const std::lock_guard lock(cq->mutex);
  for (auto& slot : cq->direct) {
    if (slot.load() != qp) continue;
    slot.store(nullptr);
    return;
  }
  cq->elsewhere.fetch_sub(1);
}

// The queues of a queue pair count it as a user each, and poll it once.
void AttachQueues(Qp* qp) {
  for (Cq* cq : {qp->send_cq.load(), qp->recv_cq.load()}) {
    if (cq != nullptr) cq->users.fetch_add(1);
  }
  if (qp->send_cq != nullptr) Attach(qp->send_cq, qp);
  if (qp->recv_cq != nullptr && qp->recv_cq.load() != qp->send_cq.load()) Attach(qp->recv_cq, qp);
}

void DetachQueues(Qp* qp) {
  if (qp->send_cq != nullptr) Detach(qp->send_cq, qp);
  if (qp->recv_cq != nullptr && qp->recv_cq.load() != qp->send_cq.load()) Detach(qp->recv_cq, qp);
  for (Cq* cq : {qp->send_cq.load(), qp->recv_cq.load()}) {
    if (cq != nullptr) cq->users.fetch_sub(1);
  }
}

// What a queue pair consists of; its lock is held.
void DropParts(Qp* qp) {
  qp->machine.reset();
  qp->datagrams.reset();
  qp->receives.reset();
  qp->own_receives.reset();
  qp->xrc.reset();
}

// An index that is given back, unless the queue pair could be made.
struct Unmade {
  void operator()(Qp* qp) const {
    DropParts(qp);
    Library::Get()->engine().ReleaseQp(qp);
  }
};

// The queues of the object; its lock is held.
void BuildQueues(Qp* qp, const Wanted& wanted, Library& library) {
  const ibv_qp_init_attr& init = qp->init;
  QpIdentity identity;
  identity.qpn = qp->handle()->qp_num;
  identity.domain = qp->pd == nullptr ? 0 : qp->pd->domain;
  identity.type = init.qp_type;
  identity.reliable = init.qp_type != IBV_QPT_UC && init.qp_type != IBV_QPT_UD;
  identity.signal_all = init.sq_sig_all != 0;
  identity.max_inline = init.cap.max_inline_data;
  identity.max_send_sges = static_cast<int>(std::max<std::uint32_t>(init.cap.max_send_sge, 1));
  identity.send_depth = Sends(init.qp_type) ? init.cap.max_send_wr : 0;
  identity.shared_receives = qp->srq != nullptr;
  ReceiveQueue* queue = nullptr;
  if (qp->srq != nullptr) {
    queue = qp->srq->queue.get();
  } else if (Receives(init.qp_type)) {
    qp->own_receives = std::make_unique<ReceiveQueue>(
        init.cap.max_recv_wr, static_cast<int>(init.cap.max_recv_sge), identity.domain);
    queue = qp->own_receives.get();
  }
  if (queue != nullptr) qp->receives = std::make_unique<QpReceives>(qp, queue, qp->srq);
  if (init.qp_type == IBV_QPT_XRC_RECV) qp->xrc = std::make_unique<XrcQueues>(qp);
  if (init.qp_type == IBV_QPT_UD) {
    qp->datagrams = std::make_unique<DatagramQp>(identity);
  } else {
    qp->machine = std::make_unique<QueuePair>(identity, &library.regions(), qp->receives.get(),
                                              qp->xrc.get());
  }
  qp->builder.reset();
  if (wanted.operations != 0) {
    qp->builder = std::make_unique<Qp::Builder>();
    FillBuilders(qp);
  }
}

ibv_qp* Make(const Wanted& wanted) {
  Library* library = Library::Get();
  if (const int error = Check(wanted); error != 0) {
    errno = error;
    return nullptr;
  }
  Qp* qp = library->engine().NewQp();
  if (qp == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  const QpLock lock(library->engine(), qp);
  std::unique_ptr<Qp, Unmade> unmade(qp);
  qp->base = {};
  qp->init = wanted.init;
  // Room for inline data costs address space only, so every queue pair has all of it.
  if (Sends(wanted.init.qp_type)) qp->init.cap.max_inline_data = kMaxInlineBytes;
  qp->attributes = {};
  qp->state = IBV_QPS_RESET;
  qp->pd = wanted.pd == nullptr ? nullptr : From(wanted.pd);
  qp->send_cq = Sends(wanted.init.qp_type) ? From(wanted.init.send_cq) : nullptr;
  qp->recv_cq = Receives(wanted.init.qp_type) ? From(wanted.init.recv_cq) : nullptr;
  qp->srq = wanted.init.srq == nullptr ? nullptr : From(wanted.init.srq);
  qp->xrcd = reinterpret_cast<Xrcd*>(wanted.xrcd);
  qp->async_reported = 0;
  qp->drain_notify = false;
  qp->unpolled = 0;
  qp->deaf_to_itself = wanted.deaf_to_itself;
  ibv_qp* handle = qp->handle();
  handle->context = wanted.context;
  handle->qp_context = wanted.init.qp_context;
  handle->pd = wanted.pd;
  handle->send_cq = wanted.init.send_cq;
  handle->recv_cq = wanted.init.recv_cq;
  handle->srq = wanted.init.srq;
  handle->qp_num = library->engine().slot() << kSlotShift | qp->index;
  handle->handle = handle->qp_num;
  handle->qp_type = wanted.init.qp_type;
  handle->state = IBV_QPS_RESET;
  pthread_mutex_init(&handle->mutex, nullptr);
  pthread_cond_init(&handle->cond, nullptr);
  BuildQueues(qp, wanted, *library);
  unmade.release();
  AttachQueues(qp);
  if (qp->srq != nullptr) qp->srq->users.fetch_add(1);
  if (qp->pd != nullptr) qp->pd->users.fetch_add(1);
  if (qp->xrcd != nullptr) qp->xrcd->users.fetch_add(1);
  Context::From(wanted.context)->users.fetch_add(1);
  qp->alive = true;
  NEX_DEBUG(2, "queue pair 0x%x made, type %d", handle->qp_num,
            static_cast<int>(wanted.init.qp_type));
  return handle;
}

// What the program gets is what it asked for, and all the inline room there is.
void AnswerCaps(ibv_qp_cap* cap, const ibv_qp_init_attr& init) {
  cap->max_send_wr = Sends(init.qp_type) ? init.cap.max_send_wr : 0;
  cap->max_inline_data = Sends(init.qp_type) ? kMaxInlineBytes : 0;
  if (!Receives(init.qp_type) || init.srq != nullptr) cap->max_recv_wr = cap->max_recv_sge = 0;
}

}  // namespace

ibv_qp* CreateQp(ibv_pd* pd, ibv_qp_init_attr* attributes) {
  Wanted wanted;
  wanted.init = *attributes;
  wanted.pd = pd;
  wanted.context = pd->context;
  ibv_qp* qp = Make(wanted);
  if (qp != nullptr) AnswerCaps(&attributes->cap, wanted.init);
  return qp;
}

ibv_qp* CreateQpEx(ibv_context* context, ibv_qp_init_attr_ex* attributes) {
  constexpr std::uint32_t kKnown = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_XRCD |
                                   IBV_QP_INIT_ATTR_SEND_OPS_FLAGS | IBV_QP_INIT_ATTR_CREATE_FLAGS;
  if (IsNull(attributes, "ibv_create_qp_ex", "attributes")) return nullptr;
  const std::uint32_t mask = attributes->comp_mask;
  const bool has_operations = (mask & IBV_QP_INIT_ATTR_SEND_OPS_FLAGS) != 0;
  const ibv_qp_type type = attributes->qp_type;
  const std::uint32_t flags =
      (mask & IBV_QP_INIT_ATTR_CREATE_FLAGS) != 0 ? attributes->create_flags : 0;
  if ((mask & ~kKnown) != 0 || (flags & ~KnownFlags(type)) != 0 ||
      (has_operations && (attributes->send_ops_flags & ~KnownOperations(type)) != 0)) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  Wanted wanted;
  wanted.init.qp_context = attributes->qp_context;
  wanted.init.send_cq = attributes->send_cq;
  wanted.init.recv_cq = attributes->recv_cq;
  wanted.init.srq = attributes->srq;
  wanted.init.cap = attributes->cap;
  wanted.init.qp_type = attributes->qp_type;
  wanted.init.sq_sig_all = attributes->sq_sig_all;
  wanted.pd = (mask & IBV_QP_INIT_ATTR_PD) != 0 ? attributes->pd : nullptr;
  wanted.xrcd = (mask & IBV_QP_INIT_ATTR_XRCD) != 0 ? attributes->xrcd : nullptr;
  wanted.deaf_to_itself = flags != 0;
  wanted.operations = has_operations ? attributes->send_ops_flags : 0;
  wanted.context = context;
  ibv_qp* qp = Make(wanted);
  if (qp != nullptr) AnswerCaps(&attributes->cap, wanted.init);
  return qp;
}

int QueryQp(ibv_qp* handle, ibv_qp_attr* attributes, int, ibv_qp_init_attr* init) {
  Qp* qp = Qp::From(handle);
  const QpLock lock(Library::Get()->engine(), qp);
  if (!Usable(qp, "ibv_query_qp")) return EINVAL;
  *attributes = qp->attributes;
  attributes->qp_state = attributes->cur_qp_state = qp->state;
  attributes->cap = qp->init.cap;
  AnswerCaps(&attributes->cap, qp->init);
  attributes->sq_draining =
      qp->state == IBV_QPS_SQD && qp->machine && !qp->machine->drained() ? 1 : 0;
  if (init != nullptr) {
    *init = qp->init;
    init->cap = attributes->cap;
  }
  return 0;
}

int DestroyQp(ibv_qp* handle) {
  Qp* qp = Qp::From(handle);
  {
    const QpLock lock(Library::Get()->engine(), qp);
    if (!Usable(qp, "ibv_destroy_qp")) return EINVAL;
    if (qp->datagrams && qp->datagrams->multicast_joined()) return EBUSY;
    qp->alive = false;
    Library::Get()->engine().CloseStream(qp);
    if (qp->xrc) qp->xrc->Forget();
    PurgeCompletions(qp->send_cq, handle->qp_num);
    PurgeCompletions(qp->recv_cq, handle->qp_num);
    DetachQueues(qp);
    DropParts(qp);
    if (qp->srq != nullptr) qp->srq->users.fetch_sub(1);
    if (qp->pd != nullptr) qp->pd->users.fetch_sub(1);
    if (qp->xrcd != nullptr) qp->xrcd->users.fetch_sub(1);
  }
  ForgetEvents(handle->context, handle);
  WaitForEventAcks(&handle->mutex, &handle->cond, &handle->events_completed, qp->async_reported);
  Context::From(handle->context)->users.fetch_sub(1);
  Library::Get()->engine().ReleaseQp(qp);
  return 0;
}

}  // namespace oxmem::nex
