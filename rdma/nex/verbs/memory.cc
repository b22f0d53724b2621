// Protection domains, memory regions, memory windows.
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "rdma/nex/library.h"
#include "rdma/nex/program_memory.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {
namespace {

constexpr unsigned kRemoteWrites = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
Pd* From(ibv_pd* pd) { return reinterpret_cast<Pd*>(pd); }
Mr* From(ibv_mr* mr) { return reinterpret_cast<Mr*>(mr); }

int CheckAccess(unsigned access) {
  if ((access & IBV_ACCESS_ON_DEMAND) != 0) return EOPNOTSUPP;
  if ((access & ~kKnownAccess) != 0) return EINVAL;
  if ((access & kRemoteWrites) != 0 && (access & IBV_ACCESS_LOCAL_WRITE) == 0) return EINVAL;
  return 0;
}

bool IsRange(const void* address, std::size_t length) {
  return length != 0 && reinterpret_cast<std::uintptr_t>(address) + length >= length;
}

// Whether there is memory in all of it. A device pins its pages; here they are looked for when they
// are used, and this asks for nothing but the mappings.
bool IsThere(const void* address, std::size_t length) {
  static const std::uintptr_t page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(address) & ~(page - 1);
  const std::uintptr_t end = reinterpret_cast<std::uintptr_t>(address) + length;
  if (end + page < end) return false;  // the last page of all, which msync takes for none
  return msync(reinterpret_cast<void*>(begin), end - begin, MS_ASYNC) == 0 || errno != ENOMEM;
}

// What a key is used with begins at the same place of a page as the memory.
bool IsSamePlace(const void* address, std::uint64_t first) {
  constexpr std::uint64_t kPlace = 4095;
  return ((reinterpret_cast<std::uintptr_t>(address) ^ first) & kPlace) == 0;
}

}  // namespace

ibv_pd* AllocPd(ibv_context* context) {
  if (!Usable(Context::From(context), "ibv_alloc_pd")) return nullptr;
  Pd* pd = Renewed(Library::Get()->objects().domains.Take());
  pd->base.context = context;
  pd->domain = Library::Get()->NewDomain();
  pd->alive = true;
  pd->base.handle = pd->domain;
  Context::From(context)->users.fetch_add(1);
  return &pd->base;
}

ibv_pd* AllocParentDomain(ibv_context* context, ibv_parent_domain_init_attr* attributes) {
  constexpr std::uint32_t kKnown =
      IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS | IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT;
  if (IsNull(attributes, "ibv_alloc_parent_domain", "attributes")) return nullptr;
  if (attributes->pd == nullptr || attributes->td != nullptr) {
    errno = attributes->pd == nullptr ? EINVAL : EOPNOTSUPP;
    return nullptr;
  }
  if (!Usable(Context::From(context), "ibv_alloc_parent_domain") ||
      !Usable(From(attributes->pd), "ibv_alloc_parent_domain")) {
    return nullptr;
  }
  if ((attributes->comp_mask & ~kKnown) != 0 || !SameDevice(attributes->pd->context, context)) {
    errno = EINVAL;
    return nullptr;
  }
  // It stands for its protection domain; nothing here is allocated for hardware, so the
  // program's allocators are never needed.
  Pd* pd = Renewed(Library::Get()->objects().domains.Take());
  pd->parent = From(attributes->pd);
  pd->parent->users.fetch_add(1);
  pd->domain = pd->parent->domain;
  pd->base.context = context;
  pd->base.handle = pd->domain;
  pd->alive = true;
  Context::From(context)->users.fetch_add(1);
  return &pd->base;
}

int DeallocPd(ibv_pd* handle) {
  Pd* pd = From(handle);
  if (!Usable(pd, "ibv_dealloc_pd") || pd->imported) return EINVAL;
  if (pd->users.load() != 0) return EBUSY;
  pd->alive = false;
  if (pd->parent != nullptr) pd->parent->users.fetch_sub(1);
  Context::From(handle->context)->users.fetch_sub(1);
  Library::Get()->objects().domains.Give(pd);
  return 0;
}

ibv_mr* RegMr(ibv_pd* pd, void* address, std::size_t length, std::uint64_t first, unsigned access) {
  if (!Usable(From(pd), "ibv_reg_mr")) return nullptr;
  int error = CheckAccess(access);
  const bool zero_based = (access & IBV_ACCESS_ZERO_BASED) != 0;
  if (!IsRange(address, length) || !(zero_based || IsSamePlace(address, first))) error = EINVAL;
  if (error == 0 && !IsThere(address, length)) error = EFAULT;
  if (error != 0) {
    errno = error;
    return nullptr;
  }
  if (zero_based) first = 0;
  GuardProgramMemory();
  Mr* mr = Renewed(Library::Get()->objects().regions.Take());
  Region* region = Library::Get()->regions().Add(From(pd)->domain, static_cast<std::byte*>(address),
                                                 first, length, access);
  if (region == nullptr) {
    Library::Get()->objects().regions.Give(mr);
    errno = ENOMEM;
    return nullptr;
  }
  mr->region = region;
  mr->access = access;
  mr->first = first;
  mr->base.context = pd->context;
  mr->base.pd = pd;
  mr->base.addr = address;
  mr->base.length = length;
  mr->base.handle = region->key.load();
  mr->base.lkey = mr->base.rkey = region->key.load();
  mr->alive = true;
  From(pd)->users.fetch_add(1);
  return &mr->base;
}

int ReregMr(ibv_mr* handle, int flags, ibv_pd* pd, void* address, std::size_t length, int access) {
  Mr* mr = From(handle);
  const auto failed = [](int error, int code) {
    errno = error;
    return code;
  };
  constexpr int kKnown =
      IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_PD | IBV_REREG_MR_CHANGE_ACCESS;
  if (!Usable(mr, "ibv_rereg_mr") || mr->imported) return failed(EINVAL, IBV_REREG_MR_ERR_INPUT);
  if (flags == 0 || (flags & ~kKnown) != 0) return failed(EINVAL, IBV_REREG_MR_ERR_INPUT);
  const bool moves = (flags & IBV_REREG_MR_CHANGE_TRANSLATION) != 0;
  if (moves && (address == nullptr || !IsRange(address, length)))
    return failed(EINVAL, IBV_REREG_MR_ERR_INPUT);
  if (moves && !IsThere(address, length)) return failed(EFAULT, IBV_REREG_MR_ERR_CMD);
  if ((flags & IBV_REREG_MR_CHANGE_PD) != 0 &&
      (pd == nullptr || !Usable(From(pd), "ibv_rereg_mr") ||
       !SameDevice(pd->context, handle->context))) {
    return failed(EINVAL, IBV_REREG_MR_ERR_INPUT);
  }
  const unsigned wanted =
      (flags & IBV_REREG_MR_CHANGE_ACCESS) != 0 ? static_cast<unsigned>(access) : mr->access;
  if (const int error = CheckAccess(wanted); error != 0) {
    return failed(error, IBV_REREG_MR_ERR_INPUT);
  }
  ibv_pd* const domain = (flags & IBV_REREG_MR_CHANGE_PD) != 0 ? pd : handle->pd;
  void* const memory = moves ? address : handle->addr;
  const std::size_t bytes = moves ? length : handle->length;
  std::uint64_t first = moves ? reinterpret_cast<std::uintptr_t>(address) : mr->first;
  if ((wanted & IBV_ACCESS_ZERO_BASED) != 0) first = 0;
  if (!Library::Get()->regions().Change(mr->region, From(domain)->domain,
                                        static_cast<std::byte*>(memory), first, bytes, wanted)) {
    return failed(EBUSY, IBV_REREG_MR_ERR_CMD);
  }
  From(handle->pd)->users.fetch_sub(1);
  From(domain)->users.fetch_add(1);
  handle->pd = domain;
  handle->addr = memory;
  handle->length = bytes;
  mr->access = wanted;
  mr->first = first;
  return 0;
}

int DeregMr(ibv_mr* handle) {
  Mr* mr = From(handle);
  if (!Usable(mr, "ibv_dereg_mr") || mr->imported) return EINVAL;
  if (!Library::Get()->regions().Remove(mr->region)) return EBUSY;
  mr->alive = false;
  From(handle->pd)->users.fetch_sub(1);
  Library::Get()->objects().regions.Give(mr);
  return 0;
}

ibv_mw* AllocMw(ibv_pd* pd, ibv_mw_type type) {
  if (type != IBV_MW_TYPE_1 && type != IBV_MW_TYPE_2) {
    errno = EINVAL;
    return nullptr;
  }
  if (!Usable(From(pd), "ibv_alloc_mw")) return nullptr;
  Mw* mw = Renewed(Library::Get()->objects().windows.Take());
  std::uint32_t key = 0;
  Region* region = Library::Get()->regions().AddWindow(From(pd)->domain, &key);
  if (region == nullptr) {
    Library::Get()->objects().windows.Give(mw);
    errno = ENOMEM;
    return nullptr;
  }
  mw->region = region;
  mw->base.context = pd->context;
  mw->base.pd = pd;
  mw->base.rkey = key;
  mw->base.handle = key >> 8;
  mw->base.type = type;
  mw->alive = true;
  From(pd)->users.fetch_add(1);
  return &mw->base;
}

int DeallocMw(ibv_mw* handle) {
  auto* mw = reinterpret_cast<Mw*>(handle);
  if (!Usable(mw, "ibv_dealloc_mw")) return EINVAL;
  mw->alive = false;
  Library::Get()->regions().RemoveWindow(mw->region);
  From(handle->pd)->users.fetch_sub(1);
  Library::Get()->objects().windows.Give(mw);
  return 0;
}

int BindMw(ibv_qp* qp, ibv_mw* mw, ibv_mw_bind* bind) {
  if (!Usable(reinterpret_cast<Mw*>(mw), "ibv_bind_mw")) return EINVAL;
  // Type 1: the key changes with every bind and is known at once.
  const std::uint32_t key = ibv_inc_rkey(mw->rkey);
  ibv_send_wr wr{};
  wr.wr_id = bind->wr_id;
  wr.opcode = IBV_WR_BIND_MW;
  wr.send_flags = bind->send_flags;
  wr.bind_mw.mw = mw;
  wr.bind_mw.rkey = key;
  wr.bind_mw.bind_info = bind->bind_info;
  ibv_send_wr* bad = nullptr;
  const int error = PostSend(qp, &wr, &bad);
  if (error == 0) mw->rkey = key;
  return error;
}

}  // namespace oxmem::nex
