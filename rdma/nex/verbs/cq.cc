// Making and destroying completion queues and channels; completion and asynchronous events.
#include <errno.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"
#include "rdma/nex/waiting.h"

namespace oxmem::nex {
namespace {

constexpr std::uint64_t kWcFlags = std::uint64_t{IBV_WC_STANDARD_FLAGS} |
                                   IBV_WC_EX_WITH_COMPLETION_TIMESTAMP |
                                   IBV_WC_EX_WITH_COMPLETION_TIMESTAMP_WALLCLOCK;

Channel* From(ibv_comp_channel* channel) { return reinterpret_cast<Channel*>(channel); }

// Blocks until the program has acknowledged every event it was given, as the manual promises.
void WaitForAcks(pthread_mutex_t* mutex, pthread_cond_t* cond, const std::uint32_t* completed,
                 std::uint32_t reported) {
  pthread_mutex_lock(mutex);
  while (*completed != reported) pthread_cond_wait(cond, mutex);
  pthread_mutex_unlock(mutex);
}

void Acknowledge(pthread_mutex_t* mutex, pthread_cond_t* cond, std::uint32_t* completed,
                 std::uint32_t count) {
  pthread_mutex_lock(mutex);
  *completed += count;
  pthread_cond_broadcast(cond);
  pthread_mutex_unlock(mutex);
}

}  // namespace

ibv_cq_ex* CreateCqEx(ibv_context* context, ibv_cq_init_attr_ex* attributes) {
  if (IsNull(attributes, "ibv_create_cq_ex", "attributes")) return nullptr;
  const bool has_flags = (attributes->comp_mask & IBV_CQ_INIT_ATTR_MASK_FLAGS) != 0;
  if (attributes->cqe == 0 || attributes->cqe > static_cast<std::uint32_t>(kMaxCqe) ||
      attributes->comp_vector >= static_cast<std::uint32_t>(context->num_comp_vectors)) {
    errno = EINVAL;
    return nullptr;
  }
  if ((attributes->comp_mask & ~(IBV_CQ_INIT_ATTR_MASK_FLAGS | IBV_CQ_INIT_ATTR_MASK_PD)) != 0 ||
      (attributes->wc_flags & ~kWcFlags) != 0 ||
      (has_flags && (attributes->flags & ~(IBV_CREATE_CQ_ATTR_SINGLE_THREADED |
                                           IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN)) != 0)) {
    errno = EOPNOTSUPP;
    return nullptr;
  }
  if (!Usable(Context::From(context), "ibv_create_cq") ||
      (attributes->channel != nullptr && !Usable(From(attributes->channel), "ibv_create_cq"))) {
    return nullptr;
  }
  if (attributes->channel != nullptr && !SameDevice(attributes->channel->context, context)) {
    errno = EINVAL;
    return nullptr;
  }
  std::vector<CqEntry> ring(attributes->cqe);
  // Other threads may still look at the object, so it is not made anew.
  Cq* cq = Library::Get()->objects().completion_queues.Take();
  cq->ring = std::move(ring);
  cq->head = cq->count = 0;
  cq->armed = cq->solicited_only = false;
  cq->overrun = false;
  cq->reported = cq->async_reported = 0;
  cq->base = {};
  cq->timestamps = (attributes->wc_flags & ~std::uint64_t{IBV_WC_STANDARD_FLAGS}) != 0;
  cq->ignore_overrun = has_flags && (attributes->flags & IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN) != 0;
  cq->base.context = context;
  cq->base.channel = attributes->channel;
  cq->base.cq_context = attributes->cq_context;
  cq->base.cqe = static_cast<int>(attributes->cqe);
  pthread_mutex_init(&cq->base.mutex, nullptr);
  pthread_cond_init(&cq->base.cond, nullptr);
  FillCqReaders(&cq->base);
  if (attributes->channel != nullptr) {
    pthread_mutex_lock(&context->mutex);
    ++attributes->channel->refcnt;
    pthread_mutex_unlock(&context->mutex);
  }
  Context::From(context)->users.fetch_add(1);
  cq->alive = true;
  return &cq->base;
}

int ResizeCq(ibv_cq* handle, int entries) {
  auto* cq = reinterpret_cast<Cq*>(handle);
  if (!Usable(cq, "ibv_resize_cq") || entries <= 0 || entries > kMaxCqe) return EINVAL;
  const std::lock_guard lock(cq->mutex);
  if (static_cast<std::size_t>(entries) < cq->count) return EINVAL;
  std::vector<CqEntry> ring(static_cast<std::size_t>(entries));
  for (std::size_t i = 0; i < cq->count; ++i) {
    ring[i] = cq->ring[(cq->head + i) % cq->ring.size()];
  }
  cq->ring = std::move(ring);
  cq->head = 0;
  handle->cqe = entries;
  return 0;
}

int DestroyCq(ibv_cq* handle) {
  auto* cq = reinterpret_cast<Cq*>(handle);
  if (!Usable(cq, "ibv_destroy_cq")) return EINVAL;
  if (cq->users.load() != 0) return EBUSY;
  cq->awaits_acks = true;
  cq->alive = false;
  if (cq->armed) Library::Get()->engine().OnDisarmed();
  if (handle->channel != nullptr) {
    From(handle->channel)->events->Remove([cq](const Cq* other) { return other == cq; });
  }
  Context* context = Context::From(handle->context);
  context->events->Remove([handle](const ibv_async_event& event) {
    return event.event_type == IBV_EVENT_CQ_ERR && event.element.cq == handle;
  });
  WaitForAcks(&handle->mutex, &handle->cond, &handle->comp_events_completed, cq->reported);
  WaitForAcks(&handle->mutex, &handle->cond, &handle->async_events_completed, cq->async_reported);
  cq->awaits_acks = false;
  if (handle->channel != nullptr) {
    pthread_mutex_lock(&handle->context->mutex);
    --handle->channel->refcnt;
    pthread_mutex_unlock(&handle->context->mutex);
  }
  context->users.fetch_sub(1);
  {
    const std::lock_guard lock(cq->mutex);
    cq->count = 0;
    cq->ring = {};
  }
  Library::Get()->objects().completion_queues.Give(cq);
  return 0;
}

ibv_comp_channel* CreateChannel(ibv_context* context) {
  if (!Usable(Context::From(context), "ibv_create_comp_channel")) return nullptr;
  auto events = std::make_unique<EventQueue<Cq*>>();
  if (events->fd() < 0) {
    errno = EMFILE;
    return nullptr;
  }
  Channel* channel = Renewed(Library::Get()->objects().channels.Take());
  channel->events = std::move(events);
  channel->base.context = context;
  channel->base.fd = channel->events->fd();
  channel->alive = true;
  Context::From(context)->users.fetch_add(1);
  return &channel->base;
}

int DestroyChannel(ibv_comp_channel* handle) {
  Channel* channel = From(handle);
  if (!Usable(channel, "ibv_destroy_comp_channel")) return EINVAL;
  if (handle->refcnt != 0) return EBUSY;
  channel->alive = false;
  Context::From(handle->context)->users.fetch_sub(1);
  channel->events.reset();
  Library::Get()->objects().channels.Give(channel);
  return 0;
}

int GetCqEvent(ibv_comp_channel* channel, ibv_cq** out, void** cq_context) {
  if (!Usable(From(channel), "ibv_get_cq_event")) return -1;
  Cq* cq = nullptr;
  auto& events = *From(channel)->events;
  while (!events.TryPop(&cq, [](Cq* taken) { ++taken->reported; })) {
    if (!events.waits()) {
      errno = EAGAIN;
      return -1;
    }
    // What the program has not answered by now it may never answer: acknowledgements go out. What
    // that brings is announced, so it comes before the waiting.
    Library::Get()->engine().FlushDelayed();
    const EventQueue<Cq*>::Waiting waiting(&events);
    if (!Library::Get()->engine().WaitFor(events.fd()) && !(errno == EINTR && HandlersRestart())) {
      return -1;
    }
  }
  *out = reinterpret_cast<ibv_cq*>(cq);
  *cq_context = cq->base.cq_context;
  return 0;
}

void AckCqEvents(ibv_cq* cq, unsigned count) {
  const auto* object = reinterpret_cast<const Cq*>(cq);
  if (count == 0 || !(object->awaits_acks || Usable(object, "ibv_ack_cq_events"))) return;
  Acknowledge(&cq->mutex, &cq->cond, &cq->comp_events_completed, count);
}

void PushAsync(ibv_context* context, const ibv_async_event& event) {
  Context::From(context)->events->Push(event);
}

void PushQpEvent(Qp* qp, ibv_event_type type) {
  ibv_async_event event{};
  event.event_type = type;
  event.element.qp = qp->handle();
  PushAsync(qp->handle()->context, event);
}

namespace {

enum class Subject { kNone, kQp, kCq, kSrq };

Subject SubjectOf(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_CQ_ERR:
      return Subject::kCq;
    case IBV_EVENT_SRQ_ERR:
    case IBV_EVENT_SRQ_LIMIT_REACHED:
      return Subject::kSrq;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return Subject::kQp;
    default:
      return Subject::kNone;
  }
}

void CountReported(const ibv_async_event& event) {
  switch (SubjectOf(event.event_type)) {
    case Subject::kQp:
      ++Qp::From(event.element.qp)->async_reported;
      break;
    case Subject::kCq:
      ++reinterpret_cast<Cq*>(event.element.cq)->async_reported;
      break;
    case Subject::kSrq:
      ++reinterpret_cast<Srq*>(event.element.srq)->async_reported;
      break;
    case Subject::kNone:
      break;
  }
}

}  // namespace

int GetAsyncEvent(ibv_context* context, ibv_async_event* event) {
  if (!Usable(Context::From(context), "ibv_get_async_event")) return -1;
  return Context::From(context)->events->Pop(event, CountReported) ? 0 : -1;
}

void AckAsyncEvent(ibv_async_event* event) {
  switch (SubjectOf(event->event_type)) {
    case Subject::kQp: {
      ibv_qp* qp = event->element.qp;
      Acknowledge(&qp->mutex, &qp->cond, &qp->events_completed, 1);
      break;
    }
    case Subject::kCq: {
      ibv_cq* cq = event->element.cq;
      Acknowledge(&cq->mutex, &cq->cond, &cq->async_events_completed, 1);
      break;
    }
    case Subject::kSrq: {
      ibv_srq* srq = event->element.srq;
      Acknowledge(&srq->mutex, &srq->cond, &srq->events_completed, 1);
      break;
    }
    case Subject::kNone:
      break;
  }
}

void ForgetEvents(ibv_context* context, const void* subject) {
  Context::From(context)->events->Remove([subject](const ibv_async_event& event) {
    return SubjectOf(event.event_type) != Subject::kNone && event.element.qp == subject;
  });
}

void WaitForEventAcks(pthread_mutex_t* mutex, pthread_cond_t* cond, const std::uint32_t* completed,
                      std::uint32_t reported) {
  WaitForAcks(mutex, cond, completed, reported);
}

}  // namespace oxmem::nex
