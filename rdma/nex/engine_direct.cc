// The engine's part for peers on the same host: reads and writes that are copies between the two
// processes, without the peer's help and without TCP.
//
// A request is copied only while everything before it on the queue pair is answered, and copied
// completely before anything after it is sent, so the peer sees requests in their order. Whatever
// is unusual goes over TCP, where the peer answers as it always does: refused keys, atomics, and
// everything behind a request that is still on its way.
#include <unistd.h>

#include <algorithm>

#include "rdma/nex/debug.h"
#include "rdma/nex/engine.h"

namespace oxmem::nex {
namespace {

// Memory stays registered for so much copying at a time.
constexpr std::uint64_t kCopyBytes = std::uint64_t{4} << 20;

}  // namespace

void Engine::OpenWay(Qp* qp) {
  if (qp->init.qp_type != IBV_QPT_RC || !neighbours_->usable()) return;
  const Handshake& handshake = qp->stream.handshake();
  auto peer = neighbours_->Meet(handshake.peer_host());
  if (peer == nullptr) return;
  const QpIdentity& identity = qp->machine->identity();
  neighbours_->OpenDoor(qp->index,
                        {.connection = handshake.connection(),
                         .domain = identity.domain,
                         .access = qp->machine->direct_access(),
                         .qpn = identity.qpn},
                        peer);
  NEX_DEBUG(1, "queue pair 0x%x: its peer, process %d, is on this host", identity.qpn,
            static_cast<int>(peer->pid()));
  Door* const door = &peer->segment().door(qp->attributes.dest_qp_num % kIndices);
  qp->way = {std::move(peer), door, handshake.connection(), getpid()};
}

void Engine::CloseWay(Qp* qp) {
  if (qp->way.peer == nullptr) return;
  if (neighbours_->CloseDoor(qp->index)) qp->machine->Touch();
  qp->way = {};
}

void Engine::ChangeAccess(Qp* qp) {
  if (qp->way.peer != nullptr) neighbours_->ChangeAccess(qp->index, qp->machine->direct_access());
}

bool Engine::TryDirect(Qp* qp, const ibv_send_wr& wr) {
  if (wr.opcode != IBV_WR_RDMA_WRITE && wr.opcode != IBV_WR_RDMA_READ) return false;
  QueuePair& machine = *qp->machine;
  if (!machine.idle_for_direct() || machine.Check(wr) != 0) return false;
  const bool reads = wr.opcode == IBV_WR_RDMA_READ;
  Payload payload;
  payload.sges = wr.sg_list;
  payload.count = wr.num_sge;
  payload.access = reads ? IBV_ACCESS_LOCAL_WRITE : 0;
  payload.domain = machine.identity().domain;
  const std::uint64_t length = PayloadLength(payload);
  if (length == 0) return false;
  for (std::uint64_t done = 0; done < length;) {
    IoBatch batch;
    if ((wr.send_flags & IBV_SEND_INLINE) != 0) {
      for (int i = 0; i < wr.num_sge; ++i) {
        batch.Add(reinterpret_cast<const void*>(wr.sg_list[i].addr), wr.sg_list[i].length);
      }
    } else if (MapPayload(*regions_, payload, done, std::min(length - done, kCopyBytes), &batch) !=
               MapResult::kOk) {
      batch.Release();
      return false;
    }
    bool hopeless = false;
    const bool copied =
        CopyThroughDoor(qp->way, reads ? CopyDirection::kRead : CopyDirection::kWrite,
                        {batch.pieces.data(), static_cast<std::size_t>(batch.piece_count)},
                        {wr.wr.rdma.remote_addr + done, batch.bytes, wr.wr.rdma.rkey}, &hopeless);
    done += batch.bytes;
    batch.Release();
    if (copied) continue;
    if (hopeless) {
      NEX_DEBUG(1, "queue pair 0x%x goes over TCP again", qp->handle()->qp_num);
      CloseWay(qp);
    }
    return false;
  }
  machine.CompleteDirect(wr, static_cast<std::uint32_t>(length));
  return true;
}

}  // namespace oxmem::nex
