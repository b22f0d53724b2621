// The ibv_wr_* builders: requests are collected between start and complete and then posted as one
// list, all of it or nothing. A wrong call is remembered and reported by complete, as the manual
// says.
#include <errno.h>

#include <cstring>
#include <new>
#include <utility>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {
namespace {

Qp::Builder& Of(ibv_qp_ex* handle) { return *reinterpret_cast<Qp*>(handle)->builder; }

bool IsMine(const Qp::Builder& builder) {
  return builder.owner.load(std::memory_order_relaxed) == std::this_thread::get_id();
}

// What finds no memory fails the whole list.
template <typename Fill>
void Collect(Qp::Builder& builder, Fill fill) {
  try {
    fill();
  } catch (const std::bad_alloc&) {
    builder.error = ENOMEM;
  }
}

ibv_send_wr& Add(ibv_qp_ex* handle, ibv_wr_opcode opcode) {
  Qp::Builder& builder = Of(handle);
  Qp::Builder::Request* request = &builder.refused;
  Collect(builder, [&] { request = &builder.requests.emplace_back(); });
  request->wr = {};
  request->wr.wr_id = handle->wr_id;
  request->wr.send_flags = handle->wr_flags;
  request->wr.opcode = opcode;
  return request->wr;
}

Qp::Builder::Request* Last(ibv_qp_ex* handle) {
  Qp::Builder& builder = Of(handle);
  if (!builder.requests.empty()) return &builder.requests.back();
  builder.error = EINVAL;
  return nullptr;
}

void Clear(Qp::Builder& builder) {
  builder.requests.clear();
  builder.error = 0;
}

void Start(ibv_qp_ex* handle) {
  Qp::Builder& builder = Of(handle);
  // Whoever starts twice begins anew.
  if (!IsMine(builder)) {
    builder.mutex.lock();
    builder.owner.store(std::this_thread::get_id(), std::memory_order_relaxed);
  }
  Clear(builder);
}

void Leave(Qp::Builder& builder) {
  builder.owner.store(std::thread::id(), std::memory_order_relaxed);
  builder.mutex.unlock();
}

void Abort(ibv_qp_ex* handle) {
  Qp::Builder& builder = Of(handle);
  if (!IsMine(builder)) return;
  Clear(builder);
  Leave(builder);
}

int PostCollected(ibv_qp_ex* handle) {
  Qp::Builder& builder = Of(handle);
  if (builder.error != 0) return builder.error;
  if (builder.requests.empty()) return 0;
  ibv_send_wr* next = nullptr;
  for (auto i = builder.requests.rbegin(); i != builder.requests.rend(); ++i) {
    if ((i->wr.send_flags & IBV_SEND_INLINE) != 0) {
      const auto address = reinterpret_cast<std::uintptr_t>(i->copy.data());
      i->sges.assign(1, {address, static_cast<std::uint32_t>(i->copy.size()), 0});
    }
    i->wr.sg_list = i->sges.data();
    i->wr.num_sge = static_cast<int>(i->sges.size());
    i->wr.next = std::exchange(next, &i->wr);
  }
  return PostWhole(&handle->qp_base, next);
}

int Complete(ibv_qp_ex* handle) {
  Qp::Builder& builder = Of(handle);
  if (!IsMine(builder)) return EINVAL;
  int error = ENOMEM;
  Collect(builder, [&] { error = PostCollected(handle); });
  Leave(builder);
  return error;
}

void SetInlineList(ibv_qp_ex* handle, std::size_t count, const ibv_data_buf* list) {
  Qp::Builder::Request* request = Last(handle);
  if (request == nullptr) return;
  request->wr.send_flags |= IBV_SEND_INLINE;
  Collect(Of(handle), [&] {
    for (std::size_t i = 0; i < count; ++i) {
      if (list[i].length > kMaxInlineBytes - request->copy.size()) {
        Of(handle).error = EINVAL;
        return;
      }
      const auto* from = static_cast<const std::byte*>(list[i].addr);
      request->copy.insert(request->copy.end(), from, from + list[i].length);
    }
  });
}

void SetSgeList(ibv_qp_ex* handle, std::size_t count, const ibv_sge* list) {
  Qp::Builder::Request* request = Last(handle);
  if (request == nullptr) return;
  if (count > static_cast<std::size_t>(kMaxSges)) {
    Of(handle).error = EINVAL;
    return;
  }
  Collect(Of(handle), [&] { request->sges.assign(list, list + count); });
}

void FillOperations(ibv_qp_ex* base) {
  base->wr_send = [](ibv_qp_ex* q) { Add(q, IBV_WR_SEND); };
  base->wr_send_imm = [](ibv_qp_ex* q, __be32 immediate) {
    Add(q, IBV_WR_SEND_WITH_IMM).imm_data = immediate;
  };
  base->wr_send_inv = [](ibv_qp_ex* q, std::uint32_t key) {
    Add(q, IBV_WR_SEND_WITH_INV).invalidate_rkey = key;
  };
  base->wr_rdma_write = [](ibv_qp_ex* q, std::uint32_t key, std::uint64_t address) {
    Add(q, IBV_WR_RDMA_WRITE).wr.rdma = {address, key};
  };
  base->wr_rdma_write_imm = [](ibv_qp_ex* q, std::uint32_t key, std::uint64_t address,
                               __be32 immediate) {
    ibv_send_wr& wr = Add(q, IBV_WR_RDMA_WRITE_WITH_IMM);
    wr.wr.rdma = {address, key};
    wr.imm_data = immediate;
  };
  base->wr_rdma_read = [](ibv_qp_ex* q, std::uint32_t key, std::uint64_t address) {
    Add(q, IBV_WR_RDMA_READ).wr.rdma = {address, key};
  };
  base->wr_atomic_cmp_swp = [](ibv_qp_ex* q, std::uint32_t key, std::uint64_t address,
                               std::uint64_t compare, std::uint64_t swap) {
    Add(q, IBV_WR_ATOMIC_CMP_AND_SWP).wr.atomic = {address, compare, swap, key};
  };
  base->wr_atomic_fetch_add = [](ibv_qp_ex* q, std::uint32_t key, std::uint64_t address,
                                 std::uint64_t add) {
    Add(q, IBV_WR_ATOMIC_FETCH_AND_ADD).wr.atomic = {address, add, 0, key};
  };
  base->wr_local_inv = [](ibv_qp_ex* q, std::uint32_t key) {
    Add(q, IBV_WR_LOCAL_INV).invalidate_rkey = key;
  };
  base->wr_bind_mw = [](ibv_qp_ex* q, ibv_mw* mw, std::uint32_t key, const ibv_mw_bind_info* info) {
    Add(q, IBV_WR_BIND_MW).bind_mw = {mw, key, *info};
  };
}

}  // namespace

void FillBuilders(Qp* qp) {
  ibv_qp_ex* base = &qp->base;
  FillOperations(base);
  base->wr_start = Start;
  base->wr_complete = Complete;
  base->wr_abort = Abort;
  base->wr_set_ud_addr = [](ibv_qp_ex* q, ibv_ah* ah, std::uint32_t qpn, std::uint32_t qkey) {
    if (auto* last = Last(q); last != nullptr) last->wr.wr.ud = {ah, qpn, qkey};
  };
  base->wr_set_xrc_srqn = [](ibv_qp_ex* q, std::uint32_t number) {
    if (auto* last = Last(q); last != nullptr) last->wr.qp_type.xrc.remote_srqn = number;
  };
  base->wr_set_sge = [](ibv_qp_ex* q, std::uint32_t key, std::uint64_t address,
                        std::uint32_t length) {
    const ibv_sge sge{address, length, key};
    SetSgeList(q, 1, &sge);
  };
  base->wr_set_sge_list = SetSgeList;
  base->wr_set_inline_data = [](ibv_qp_ex* q, void* address, std::size_t length) {
    const ibv_data_buf buffer{address, length};
    SetInlineList(q, 1, &buffer);
  };
  base->wr_set_inline_data_list = SetInlineList;
}

}  // namespace oxmem::nex
