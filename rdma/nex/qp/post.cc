// Taking posted requests: what a work request must look like, and its copy in the ring.
#include <endian.h>
#include <errno.h>

#include <cstring>

#include "rdma/nex/qp/requester.h"

namespace oxmem::nex {
namespace {

bool IsLocal(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_LOCAL_INV || opcode == IBV_WR_BIND_MW;
}

bool OpcodeFits(ibv_wr_opcode opcode, bool reliable) {
  switch (static_cast<int>(opcode)) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
    case IBV_WR_SEND:
    case IBV_WR_SEND_WITH_IMM:
    case IBV_WR_SEND_WITH_INV:
    case IBV_WR_LOCAL_INV:
    case IBV_WR_BIND_MW:
      return true;
    case IBV_WR_RDMA_READ:
    case IBV_WR_ATOMIC_CMP_AND_SWP:
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      return reliable;
    default:
      return false;
  }
}

bool TakesReceive(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_SEND || opcode == IBV_WR_SEND_WITH_IMM ||
         opcode == IBV_WR_SEND_WITH_INV || opcode == IBV_WR_RDMA_WRITE_WITH_IMM;
}

bool IsAtomic(ibv_wr_opcode opcode) {
  return opcode == IBV_WR_ATOMIC_CMP_AND_SWP || opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

}  // namespace

int Requester::Check(const ibv_send_wr& wr) const {
  if (!OpcodeFits(wr.opcode, identity_.reliable)) return EINVAL;
  // The program has said max_rd_atomic 0: that it wants none of these outstanding.
  const bool answered = wr.opcode == IBV_WR_RDMA_READ || IsAtomic(wr.opcode);
  if (answered && limits_.max_reads == 0) return EINVAL;
  if (wr.num_sge < 0 || wr.num_sge > identity_.max_send_sges) return EINVAL;
  if (wr.num_sge > 0 && wr.sg_list == nullptr) return EINVAL;
  std::uint64_t length = 0;
  for (int i = 0; i < wr.num_sge; ++i) length += wr.sg_list[i].length;
  if (length > kMaxMessageBytes) return EINVAL;
  if ((wr.send_flags & IBV_SEND_INLINE) != 0) {
    if (length > identity_.max_inline) return EINVAL;
    if (answered) return EINVAL;
  }
  return ring_.full() ? ENOMEM : 0;
}

void Requester::FillOperation(const ibv_send_wr& wr, SendWork* work) {
  switch (static_cast<int>(wr.opcode)) {
    case IBV_WR_RDMA_WRITE_WITH_IMM:
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_READ:
      work->remote_address = wr.wr.rdma.remote_addr;
      work->key = wr.wr.rdma.rkey;
      break;
    case IBV_WR_ATOMIC_CMP_AND_SWP:
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      work->remote_address = wr.wr.atomic.remote_addr;
      work->key = wr.wr.atomic.rkey;
      work->operand = wr.wr.atomic.compare_add;
      work->swap = wr.wr.atomic.swap;
      break;
    default:
      break;
  }
  // The immediate travels in the byte order the program gave it; a key to invalidate as a number.
  if (wr.opcode == IBV_WR_SEND_WITH_INV || wr.opcode == IBV_WR_LOCAL_INV) {
    work->immediate = wr.invalidate_rkey;
  } else {
    work->immediate = be32toh(wr.imm_data);
  }
  if (identity_.type == IBV_QPT_XRC_SEND) work->srq_number = wr.qp_type.xrc.remote_srqn;
}

int Requester::Post(const ibv_send_wr& wr, const BindWork* bind) {
  if (const int error = Check(wr); error != 0) return error;
  if (wr.opcode == IBV_WR_BIND_MW && bind == nullptr) return EINVAL;
  SendWork& work = ring_.PushTail();
  work.wr_id = wr.wr_id;
  work.opcode = wr.opcode;
  work.signaled = identity_.signal_all || (wr.send_flags & IBV_SEND_SIGNALED) != 0;
  work.solicited = (wr.send_flags & IBV_SEND_SOLICITED) != 0;
  work.fenced = (wr.send_flags & IBV_SEND_FENCE) != 0;
  FillOperation(wr, &work);
  work.sequence = next_sequence_;
  if (IsLocal(wr.opcode)) {
    // Local operations answer themselves and have no number on the wire.
    if (bind != nullptr) work.bind = *bind;
    return 0;
  }
  ++next_sequence_;
  work.takes_receive = TakesReceive(wr.opcode);
  work.receive = next_receive_;
  if (work.takes_receive) ++next_receive_;
  work.copied = (wr.send_flags & IBV_SEND_INLINE) != 0;
  for (int i = 0; i < wr.num_sge; ++i) {
    const ibv_sge& sge = wr.sg_list[i];
    if (work.copied && sge.length != 0) {
      std::memcpy(work.copy + work.length, reinterpret_cast<const void*>(sge.addr), sge.length);
    } else if (!work.copied) {
      work.sges[work.sge_count++] = sge;
    }
    work.length += sge.length;
  }
  return 0;
}

}  // namespace oxmem::nex
