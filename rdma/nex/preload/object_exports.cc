// The exported verbs on objects: on nex0's own to their implementation, on others to the real
// library. A null handle is refused here (arguments.h).
#include <errno.h>
#include <infiniband/verbs.h>

#include <cstring>

#include "rdma/nex/library.h"
#include "rdma/nex/preload/arguments.h"
#include "rdma/nex/preload/real.h"
#include "rdma/nex/verbs/operations.h"

#undef ibv_reg_mr
#undef ibv_reg_mr_iova

namespace nex = oxmem::nex;

namespace {

template <typename Handle>
bool Ours(const Handle* handle) {
  return handle != nullptr && nex::IsOurs(handle->context);
}

std::nullptr_t Null(int error) {
  errno = error;
  return nullptr;
}

nex::Gid GidOf(const ibv_gid* raw) {
  nex::Gid gid;
  std::memcpy(gid.data(), raw->raw, gid.size());
  return gid;
}

}  // namespace

NEX_EXPORT ibv_pd* ibv_alloc_pd(ibv_context* context) {
  NEX_REFUSE_NULL(context, nullptr);
  return nex::IsOurs(context) ? nex::kGuarded<nex::AllocPd>(context)
                              : NEX_REAL(ibv_alloc_pd)(context);
}

NEX_EXPORT int ibv_dealloc_pd(ibv_pd* pd) {
  NEX_REFUSE_NULL(pd, EINVAL);
  return Ours(pd) ? nex::DeallocPd(pd) : NEX_REAL(ibv_dealloc_pd)(pd);
}

NEX_EXPORT ibv_mr* ibv_reg_mr(ibv_pd* pd, void* address, std::size_t length, int access) {
  NEX_REFUSE_NULL(pd, nullptr);
  if (!Ours(pd)) return NEX_REAL(ibv_reg_mr)(pd, address, length, access);
  return nex::kGuarded<nex::RegMr>(pd, address, length, reinterpret_cast<std::uintptr_t>(address),
                                   static_cast<unsigned>(access));
}

NEX_EXPORT ibv_mr* ibv_reg_mr_iova(ibv_pd* pd, void* address, std::size_t length,
                                   std::uint64_t iova, int access) {
  NEX_REFUSE_NULL(pd, nullptr);
  if (!Ours(pd)) return NEX_REAL(ibv_reg_mr_iova)(pd, address, length, iova, access);
  return nex::kGuarded<nex::RegMr>(pd, address, length, iova, static_cast<unsigned>(access));
}

NEX_EXPORT ibv_mr* ibv_reg_mr_iova2(ibv_pd* pd, void* address, std::size_t length,
                                    std::uint64_t iova, unsigned access) {
  NEX_REFUSE_NULL(pd, nullptr);
  if (!Ours(pd)) return NEX_REAL(ibv_reg_mr_iova2)(pd, address, length, iova, access);
  return nex::kGuarded<nex::RegMr>(pd, address, length, iova, access);
}

NEX_EXPORT ibv_mr* ibv_reg_dmabuf_mr(ibv_pd* pd, std::uint64_t offset, std::size_t length,
                                     std::uint64_t iova, int fd, int access) {
  NEX_REFUSE_NULL(pd, nullptr);
  if (!Ours(pd)) return NEX_REAL(ibv_reg_dmabuf_mr)(pd, offset, length, iova, fd, access);
  return Null(EOPNOTSUPP);
}

NEX_EXPORT int ibv_rereg_mr(ibv_mr* mr, int flags, ibv_pd* pd, void* address, std::size_t length,
                            int access) {
  NEX_REFUSE_NULL(mr, EINVAL);
  if (!Ours(mr)) return NEX_REAL(ibv_rereg_mr)(mr, flags, pd, address, length, access);
  return nex::ReregMr(mr, flags, pd, address, length, access);
}

NEX_EXPORT int ibv_dereg_mr(ibv_mr* mr) {
  NEX_REFUSE_NULL(mr, EINVAL);
  return Ours(mr) ? nex::DeregMr(mr) : NEX_REAL(ibv_dereg_mr)(mr);
}

NEX_EXPORT ibv_comp_channel* ibv_create_comp_channel(ibv_context* context) {
  NEX_REFUSE_NULL(context, nullptr);
  return nex::IsOurs(context) ? nex::kGuarded<nex::CreateChannel>(context)
                              : NEX_REAL(ibv_create_comp_channel)(context);
}

NEX_EXPORT int ibv_destroy_comp_channel(ibv_comp_channel* channel) {
  NEX_REFUSE_NULL(channel, EINVAL);
  return Ours(channel) ? nex::DestroyChannel(channel) : NEX_REAL(ibv_destroy_comp_channel)(channel);
}

NEX_EXPORT ibv_cq* ibv_create_cq(ibv_context* context, int entries, void* cq_context,
                                 ibv_comp_channel* channel, int vector) {
  NEX_REFUSE_NULL(context, nullptr);
  if (!nex::IsOurs(context)) {
    return NEX_REAL(ibv_create_cq)(context, entries, cq_context, channel, vector);
  }
  ibv_cq_init_attr_ex attributes{};
  attributes.cqe = entries < 0 ? 0 : static_cast<std::uint32_t>(entries);
  attributes.cq_context = cq_context;
  attributes.channel = channel;
  attributes.comp_vector = static_cast<std::uint32_t>(vector);
  return reinterpret_cast<ibv_cq*>(nex::kGuarded<nex::CreateCqEx>(context, &attributes));
}

NEX_EXPORT int ibv_resize_cq(ibv_cq* cq, int entries) {
  NEX_REFUSE_NULL(cq, EINVAL);
  return Ours(cq) ? nex::kGuarded<nex::ResizeCq>(cq, entries)
                  : NEX_REAL(ibv_resize_cq)(cq, entries);
}

NEX_EXPORT int ibv_destroy_cq(ibv_cq* cq) {
  NEX_REFUSE_NULL(cq, EINVAL);
  return Ours(cq) ? nex::DestroyCq(cq) : NEX_REAL(ibv_destroy_cq)(cq);
}

NEX_EXPORT int ibv_get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context) {
  NEX_REFUSE_NULL(channel, -1);
  NEX_REFUSE_NULL(cq, -1);
  NEX_REFUSE_NULL(cq_context, -1);
  return Ours(channel) ? nex::GetCqEvent(channel, cq, cq_context)
                       : NEX_REAL(ibv_get_cq_event)(channel, cq, cq_context);
}

NEX_EXPORT void ibv_ack_cq_events(ibv_cq* cq, unsigned count) {
  NEX_REFUSE_NULL(cq, );
  Ours(cq) ? nex::AckCqEvents(cq, count) : NEX_REAL(ibv_ack_cq_events)(cq, count);
}

// The event names its object but not its context: objects of nex0 know theirs.
NEX_EXPORT void ibv_ack_async_event(ibv_async_event* event) {
  NEX_REFUSE_NULL(event, );
  ibv_context* context = nullptr;
  switch (event->event_type) {
    case IBV_EVENT_CQ_ERR:
      context = event->element.cq->context;
      break;
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      context = event->element.qp->context;
      break;
    case IBV_EVENT_SRQ_ERR:
    case IBV_EVENT_SRQ_LIMIT_REACHED:
      context = event->element.srq->context;
      break;
    default:
      return;
  }
  nex::IsOurs(context) ? nex::AckAsyncEvent(event) : NEX_REAL(ibv_ack_async_event)(event);
}

NEX_EXPORT ibv_srq* ibv_create_srq(ibv_pd* pd, ibv_srq_init_attr* attributes) {
  NEX_REFUSE_NULL(pd, nullptr);
  NEX_REFUSE_NULL(attributes, nullptr);
  return Ours(pd) ? nex::kGuarded<nex::CreateSrq>(pd, attributes)
                  : NEX_REAL(ibv_create_srq)(pd, attributes);
}

NEX_EXPORT int ibv_modify_srq(ibv_srq* srq, ibv_srq_attr* attributes, int mask) {
  NEX_REFUSE_NULL(srq, EINVAL);
  NEX_REFUSE_NULL(attributes, EINVAL);
  return Ours(srq) ? nex::kGuarded<nex::ModifySrq>(srq, attributes, mask)
                   : NEX_REAL(ibv_modify_srq)(srq, attributes, mask);
}

NEX_EXPORT int ibv_query_srq(ibv_srq* srq, ibv_srq_attr* attributes) {
  NEX_REFUSE_NULL(srq, EINVAL);
  NEX_REFUSE_NULL(attributes, EINVAL);
  return Ours(srq) ? nex::QuerySrq(srq, attributes) : NEX_REAL(ibv_query_srq)(srq, attributes);
}

NEX_EXPORT int ibv_destroy_srq(ibv_srq* srq) {
  NEX_REFUSE_NULL(srq, EINVAL);
  return Ours(srq) ? nex::DestroySrq(srq) : NEX_REAL(ibv_destroy_srq)(srq);
}

NEX_EXPORT ibv_qp* ibv_create_qp(ibv_pd* pd, ibv_qp_init_attr* attributes) {
  NEX_REFUSE_NULL(pd, nullptr);
  NEX_REFUSE_NULL(attributes, nullptr);
  return Ours(pd) ? nex::kGuarded<nex::CreateQp>(pd, attributes)
                  : NEX_REAL(ibv_create_qp)(pd, attributes);
}

NEX_EXPORT ibv_qp_ex* ibv_qp_to_qp_ex(ibv_qp* qp) {
  NEX_REFUSE_NULL(qp, nullptr);
  if (!Ours(qp)) return NEX_REAL(ibv_qp_to_qp_ex)(qp);
  nex::Qp* own = nex::Qp::From(qp);
  return own->builder ? &own->base : nullptr;
}

NEX_EXPORT int ibv_modify_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask) {
  NEX_REFUSE_NULL(qp, EINVAL);
  NEX_REFUSE_NULL(attributes, EINVAL);
  return Ours(qp) ? nex::kGuarded<nex::ModifyQp>(qp, attributes, mask)
                  : NEX_REAL(ibv_modify_qp)(qp, attributes, mask);
}

NEX_EXPORT int ibv_query_qp(ibv_qp* qp, ibv_qp_attr* attributes, int mask, ibv_qp_init_attr* init) {
  NEX_REFUSE_NULL(qp, EINVAL);
  NEX_REFUSE_NULL(attributes, EINVAL);
  return Ours(qp) ? nex::QueryQp(qp, attributes, mask, init)
                  : NEX_REAL(ibv_query_qp)(qp, attributes, mask, init);
}

NEX_EXPORT int ibv_query_qp_data_in_order(ibv_qp* qp, ibv_wr_opcode opcode, std::uint32_t flags) {
  NEX_REFUSE_NULL(qp, 0);
  if (!Ours(qp)) return NEX_REAL(ibv_query_qp_data_in_order)(qp, opcode, flags);
  return 0;
}

NEX_EXPORT int ibv_destroy_qp(ibv_qp* qp) {
  NEX_REFUSE_NULL(qp, EINVAL);
  return Ours(qp) ? nex::DestroyQp(qp) : NEX_REAL(ibv_destroy_qp)(qp);
}

// Options of a connection that vendors agree on among themselves: there are none, as on other
// devices without.
NEX_EXPORT int ibv_query_ece(ibv_qp* qp, ibv_ece* ece) {
  NEX_REFUSE_NULL(qp, EINVAL);
  return Ours(qp) ? EOPNOTSUPP : NEX_REAL(ibv_query_ece)(qp, ece);
}

NEX_EXPORT int ibv_set_ece(ibv_qp* qp, ibv_ece* ece) {
  NEX_REFUSE_NULL(qp, EINVAL);
  return Ours(qp) ? EOPNOTSUPP : NEX_REAL(ibv_set_ece)(qp, ece);
}

NEX_EXPORT ibv_pd* ibv_import_pd(ibv_context* context, std::uint32_t handle) {
  NEX_REFUSE_NULL(context, nullptr);
  return nex::IsOurs(context) ? nex::kGuarded<nex::ImportPd>(context, handle)
                              : NEX_REAL(ibv_import_pd)(context, handle);
}

NEX_EXPORT void ibv_unimport_pd(ibv_pd* pd) {
  NEX_REFUSE_NULL(pd, );
  if (Ours(pd)) {
    nex::UnimportPd(pd);
  } else {
    NEX_REAL(ibv_unimport_pd)(pd);
  }
}

NEX_EXPORT ibv_mr* ibv_import_mr(ibv_pd* pd, std::uint32_t handle) {
  NEX_REFUSE_NULL(pd, nullptr);
  return Ours(pd) ? nex::kGuarded<nex::ImportMr>(pd, handle) : NEX_REAL(ibv_import_mr)(pd, handle);
}

NEX_EXPORT void ibv_unimport_mr(ibv_mr* mr) {
  NEX_REFUSE_NULL(mr, );
  if (Ours(mr)) {
    nex::UnimportMr(mr);
  } else {
    NEX_REAL(ibv_unimport_mr)(mr);
  }
}

NEX_EXPORT ibv_dm* ibv_import_dm(ibv_context* context, std::uint32_t handle) {
  NEX_REFUSE_NULL(context, nullptr);
  return nex::IsOurs(context) ? Null(EOPNOTSUPP) : NEX_REAL(ibv_import_dm)(context, handle);
}

NEX_EXPORT ibv_ah* ibv_create_ah(ibv_pd* pd, ibv_ah_attr* attributes) {
  NEX_REFUSE_NULL(pd, nullptr);
  NEX_REFUSE_NULL(attributes, nullptr);
  return Ours(pd) ? nex::kGuarded<nex::CreateAh>(pd, attributes)
                  : NEX_REAL(ibv_create_ah)(pd, attributes);
}

NEX_EXPORT int ibv_destroy_ah(ibv_ah* ah) {
  NEX_REFUSE_NULL(ah, EINVAL);
  return Ours(ah) ? nex::DestroyAh(ah) : NEX_REAL(ibv_destroy_ah)(ah);
}

NEX_EXPORT int ibv_init_ah_from_wc(ibv_context* context, std::uint8_t port, ibv_wc* wc,
                                   ibv_grh* grh, ibv_ah_attr* attributes) {
  NEX_REFUSE_NULL(context, EINVAL);
  NEX_REFUSE_NULL(wc, EINVAL);
  NEX_REFUSE_NULL(attributes, EINVAL);
  if (!nex::IsOurs(context)) {
    return NEX_REAL(ibv_init_ah_from_wc)(context, port, wc, grh, attributes);
  }
  return nex::InitAhFromWc(port, *wc, grh, attributes);
}

NEX_EXPORT ibv_ah* ibv_create_ah_from_wc(ibv_pd* pd, ibv_wc* wc, ibv_grh* grh, std::uint8_t port) {
  NEX_REFUSE_NULL(pd, nullptr);
  NEX_REFUSE_NULL(wc, nullptr);
  if (!Ours(pd)) return NEX_REAL(ibv_create_ah_from_wc)(pd, wc, grh, port);
  ibv_ah_attr attributes;
  if (const int error = nex::InitAhFromWc(port, *wc, grh, &attributes); error != 0) {
    return Null(error);
  }
  return nex::kGuarded<nex::CreateAh>(pd, &attributes);
}

NEX_EXPORT int ibv_attach_mcast(ibv_qp* qp, const ibv_gid* gid, std::uint16_t lid) {
  NEX_REFUSE_NULL(qp, EINVAL);
  NEX_REFUSE_NULL(gid, EINVAL);
  if (!Ours(qp)) return NEX_REAL(ibv_attach_mcast)(qp, gid, lid);
  nex::Qp* own = nex::Qp::From(qp);
  const nex::QpLock lock(nex::Library::Get()->engine(), own);
  if (!nex::Usable(own, "ibv_attach_mcast") || !own->datagrams) return EINVAL;
  return nex::Library::Get()->engine().JoinGroup(own, GidOf(gid));
}

NEX_EXPORT int ibv_detach_mcast(ibv_qp* qp, const ibv_gid* gid, std::uint16_t lid) {
  NEX_REFUSE_NULL(qp, EINVAL);
  NEX_REFUSE_NULL(gid, EINVAL);
  if (!Ours(qp)) return NEX_REAL(ibv_detach_mcast)(qp, gid, lid);
  nex::Qp* own = nex::Qp::From(qp);
  const nex::QpLock lock(nex::Library::Get()->engine(), own);
  if (!nex::Usable(own, "ibv_detach_mcast") || !own->datagrams) return EINVAL;
  return nex::Library::Get()->engine().LeaveGroup(own, GidOf(gid));
}
