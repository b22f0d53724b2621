// The ibv_wr_* builders: requests are collected between start and complete and then posted as one
// list. A wrong call is remembered and reported by complete, as the manual says.
#include <errno.h>

#include <cstring>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"

namespace oxmem::nex {
namespace {

Qp::Builder& Of(ibv_qp_ex* handle) { return *reinterpret_cast<Qp*>(handle)->builder; }

ibv_send_wr& Add(ibv_qp_ex* handle, ibv_wr_opcode opcode) {
  Qp::Builder& builder = Of(handle);
  ibv_send_wr wr{};
  wr.wr_id = handle->wr_id;
  wr.send_flags = handle->wr_flags;
  wr.opcode = opcode;
  builder.works.push_back(wr);
  builder.sges.emplace_back();
  builder.copies.emplace_back();
  return builder.works.back();
}

ibv_send_wr* Last(ibv_qp_ex* handle) {
  Qp::Builder& builder = Of(handle);
  if (builder.works.empty()) {
    builder.error = EINVAL;
    return nullptr;
  }
  return &builder.works.back();
}

void Start(ibv_qp_ex* handle) {
  Qp::Builder& builder = Of(handle);
  builder.works.clear();
  builder.sges.clear();
  builder.copies.clear();
  builder.error = 0;
}

int Complete(ibv_qp_ex* handle) {
  Qp::Builder& builder = Of(handle);
  if (builder.error != 0) return builder.error;
  if (builder.works.empty()) return 0;
  for (std::size_t i = 0; i < builder.works.size(); ++i) {
    ibv_send_wr& wr = builder.works[i];
    if ((wr.send_flags & IBV_SEND_INLINE) != 0) {
      const auto address = reinterpret_cast<std::uintptr_t>(builder.copies[i].data());
      builder.sges[i] = {{address, static_cast<std::uint32_t>(builder.copies[i].size()), 0}};
    }
    wr.sg_list = builder.sges[i].data();
    wr.num_sge = static_cast<int>(builder.sges[i].size());
    wr.next = i + 1 < builder.works.size() ? &builder.works[i + 1] : nullptr;
  }
  ibv_send_wr* bad = nullptr;
  return PostSend(&handle->qp_base, builder.works.data(), &bad);
}

void SetInlineList(ibv_qp_ex* handle, std::size_t count, const ibv_data_buf* list) {
  ibv_send_wr* wr = Last(handle);
  if (wr == nullptr) return;
  std::vector<std::byte>& copy = Of(handle).copies.back();
  for (std::size_t i = 0; i < count; ++i) {
    const auto* from = static_cast<const std::byte*>(list[i].addr);
    copy.insert(copy.end(), from, from + list[i].length);
  }
  if (copy.size() > kMaxInlineBytes) Of(handle).error = EINVAL;
  wr->send_flags |= IBV_SEND_INLINE;
}

void SetSgeList(ibv_qp_ex* handle, std::size_t count, const ibv_sge* list) {
  if (Last(handle) != nullptr) Of(handle).sges.back().assign(list, list + count);
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
  base->wr_abort = Start;
  base->wr_set_ud_addr = [](ibv_qp_ex* q, ibv_ah* ah, std::uint32_t qpn, std::uint32_t qkey) {
    if (ibv_send_wr* wr = Last(q); wr != nullptr) wr->wr.ud = {ah, qpn, qkey};
  };
  base->wr_set_xrc_srqn = [](ibv_qp_ex* q, std::uint32_t number) {
    if (ibv_send_wr* wr = Last(q); wr != nullptr) wr->qp_type.xrc.remote_srqn = number;
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
