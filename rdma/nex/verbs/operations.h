#ifndef RDMA_NEX_VERBS_OPERATIONS_H_
#define RDMA_NEX_VERBS_OPERATIONS_H_

#include <errno.h>
#include <infiniband/verbs.h>

#include <cstdint>
#include <new>
#include <type_traits>

#include "rdma/nex/objects.h"

// The verbs on nex0's own objects, behind the exported names (exports.cc) and the operation tables
// of a context. Arguments are as the manual pages say; the values returned are those of the verbs.
namespace oxmem::nex {

// Runs a verb for a program that knows no exceptions: without memory it fails with ENOMEM.
template <typename Verb>
auto WithMemory(Verb verb) -> decltype(verb()) {
  try {
    return verb();
  } catch (const std::bad_alloc&) {
    errno = ENOMEM;
  }
  if constexpr (std::is_pointer_v<decltype(verb())>) {
    return nullptr;
  } else {
    return ENOMEM;
  }
}

template <auto kVerb>
struct Guard;
template <typename Result, typename... Arguments, Result (*kVerb)(Arguments...)>
struct Guard<kVerb> {
  static Result Call(Arguments... arguments) {
    return WithMemory([&] { return kVerb(arguments...); });
  }
};
// The same for a function below that makes or changes an object.
template <auto kVerb>
inline constexpr auto kGuarded = &Guard<kVerb>::Call;

// Where a list of work requests stopped; programs that pass no place for it are not told.
template <typename Request>
void SetBad(Request** bad, Request* request) {
  if (bad != nullptr) *bad = request;
}

// IBV_ACCESS_* of regions and queue pairs. Relaxed ordering and huge pages are hints that ask for
// nothing here; the last are optional for every device.
inline constexpr unsigned kKnownAccess =
    IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ |
    IBV_ACCESS_REMOTE_ATOMIC | IBV_ACCESS_MW_BIND | IBV_ACCESS_ZERO_BASED | IBV_ACCESS_ON_DEMAND |
    IBV_ACCESS_HUGETLB | IBV_ACCESS_RELAXED_ORDERING | 0x3ff00000;
// A queue pair may also be open to flushes (IBV_ACCESS_FLUSH_GLOBAL and _PERSISTENT of rdma-core
// 45), for which there is never a region.
inline constexpr unsigned kKnownQpAccess = kKnownAccess | 1u << 8 | 1u << 9;

// Objects of one opening of the device belong together; it may have been imported since.
inline bool SameDevice(ibv_context* a, ibv_context* b) {
  return Context::From(a)->file == Context::From(b)->file;
}

// completion_queue.cc, verbs/cq.cc
int PollCq(ibv_cq* cq, int max, ibv_wc* out);
int RequestNotify(ibv_cq* cq, int solicited_only);
void FillCqReaders(ibv_cq_ex* cq);
ibv_cq_ex* CreateCqEx(ibv_context* context, ibv_cq_init_attr_ex* attributes);
int ResizeCq(ibv_cq* cq, int entries);
int DestroyCq(ibv_cq* cq);
ibv_comp_channel* CreateChannel(ibv_context* context);
int DestroyChannel(ibv_comp_channel* channel);
int GetCqEvent(ibv_comp_channel* channel, ibv_cq** cq, void** cq_context);
void AckCqEvents(ibv_cq* cq, unsigned count);
int GetAsyncEvent(ibv_context* context, ibv_async_event* event);
void AckAsyncEvent(ibv_async_event* event);

// verbs/memory.cc
ibv_pd* AllocPd(ibv_context* context);
ibv_pd* AllocParentDomain(ibv_context* context, ibv_parent_domain_init_attr* attributes);
int DeallocPd(ibv_pd* pd);
ibv_mr* RegMr(ibv_pd* pd, void* address, std::size_t length, std::uint64_t first, unsigned access);
int ReregMr(ibv_mr* mr, int flags, ibv_pd* pd, void* address, std::size_t length, int access);
int DeregMr(ibv_mr* mr);
ibv_mw* AllocMw(ibv_pd* pd, ibv_mw_type type);
int DeallocMw(ibv_mw* mw);
int BindMw(ibv_qp* qp, ibv_mw* mw, ibv_mw_bind* bind);

// verbs/import.cc
int NewCommandFile(Context* context);  // 0 or an errno
bool IsCommandFile(int fd);            // of a context of this process
bool IsForeignCommandFile(int fd);     // of nex0 as well, but of another one
void AdoptCommandFile(Context* context, int fd);
ibv_pd* ImportPd(ibv_context* context, std::uint32_t handle);
void UnimportPd(ibv_pd* pd);
ibv_mr* ImportMr(ibv_pd* pd, std::uint32_t handle);
void UnimportMr(ibv_mr* mr);

// verbs/srq.cc
ibv_srq* CreateSrq(ibv_pd* pd, ibv_srq_init_attr* attributes);
ibv_srq* CreateSrqEx(ibv_context* context, ibv_srq_init_attr_ex* attributes);
int ModifySrq(ibv_srq* srq, ibv_srq_attr* attributes, int mask);
int QuerySrq(ibv_srq* srq, ibv_srq_attr* attributes);
int DestroySrq(ibv_srq* srq);
int GetSrqNumber(ibv_srq* srq, std::uint32_t* number);
int PostSrqReceive(ibv_srq* srq, ibv_recv_wr* wr, ibv_recv_wr** bad);
ibv_xrcd* OpenXrcd(ibv_context* context, ibv_xrcd_init_attr* attributes);
int CloseXrcd(ibv_xrcd* xrcd);

// verbs/qp.cc, verbs/modify.cc, verbs/post.cc, verbs/builders.cc
ibv_qp* CreateQp(ibv_pd* pd, ibv_qp_init_attr* attributes);
ibv_qp* CreateQpEx(ibv_context* context, ibv_qp_init_attr_ex* attributes);
int ModifyQp(ibv_qp* qp, ibv_qp_attr* attributes, int mask);
int QueryQp(ibv_qp* qp, ibv_qp_attr* attributes, int mask, ibv_qp_init_attr* init);
int DestroyQp(ibv_qp* qp);
int PostSend(ibv_qp* qp, ibv_send_wr* wr, ibv_send_wr** bad);
int PostWhole(ibv_qp* qp, ibv_send_wr* wr);  // all of the list, or an errno and nothing
int PostReceive(ibv_qp* qp, ibv_recv_wr* wr, ibv_recv_wr** bad);
void FillBuilders(Qp* qp);

// verbs/ah.cc
ibv_ah* CreateAh(ibv_pd* pd, ibv_ah_attr* attributes);
int DestroyAh(ibv_ah* ah);
int InitAhFromWc(std::uint8_t port, const ibv_wc& wc, const ibv_grh* grh, ibv_ah_attr* out);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_VERBS_OPERATIONS_H_
