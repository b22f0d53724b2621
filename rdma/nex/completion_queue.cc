// Completion queues: the ring, the channel event, what ibv_poll_cq and the extended readers see.
#include <errno.h>
#include <time.h>

#include <algorithm>

#include "rdma/nex/library.h"
#include "rdma/nex/verbs/operations.h"
#include "transport/base/clock.h"

namespace oxmem::nex {
namespace {

Cq* From(ibv_cq* cq) { return reinterpret_cast<Cq*>(cq); }
Cq* From(ibv_cq_ex* cq) { return reinterpret_cast<Cq*>(cq); }

std::uint64_t WallClockNs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000000000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

int StartPoll(ibv_cq_ex* handle, ibv_poll_cq_attr* attributes) {
  Cq* cq = From(handle);
  if (!Usable(cq, "ibv_start_poll")) return EINVAL;
  if (attributes != nullptr && attributes->comp_mask != 0) return EINVAL;
  Library::Get()->engine().CountPoll(cq);
  if (PopCompletions(cq, 1, &cq->current) == 0) {
    if (cq->overrun) return EIO;
    Library::Get()->engine().PollProgress(cq);
    if (PopCompletions(cq, 1, &cq->current) == 0) return ENOENT;
  }
  handle->wr_id = cq->current.wc.wr_id;
  handle->status = cq->current.wc.status;
  return 0;
}

int NextPoll(ibv_cq_ex* handle) {
  Cq* cq = From(handle);
  if (PopCompletions(cq, 1, &cq->current) == 0) return ENOENT;
  handle->wr_id = cq->current.wc.wr_id;
  handle->status = cq->current.wc.status;
  return 0;
}

const ibv_wc& Current(ibv_cq_ex* cq) { return From(cq)->current.wc; }

// The lock of the queue is held, so nobody else changes it.
void Add(std::atomic<std::uint32_t>* slots, std::uint32_t change) {
  if (slots == nullptr) return;
  slots->store(slots->load(std::memory_order_relaxed) + change, std::memory_order_relaxed);
}

// The oldest completion; the lock is held, and there is one.
const CqEntry& TakeOldest(Cq* cq) {
  const CqEntry& entry = cq->ring[cq->head];
  cq->head = cq->head + 1 == cq->ring.size() ? 0 : cq->head + 1;
  cq->count.store(cq->count.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  Add(entry.slots, -1u);
  return entry;
}

}  // namespace

bool PushCompletion(Cq* cq, const ibv_wc& wc, bool solicited, std::atomic<std::uint32_t>* slots) {
  bool notify = false;
  bool lost = false;
  bool overrun = false;
  {
    const std::lock_guard lock(cq->mutex);
    if (cq->count == cq->ring.size()) {
      lost = !cq->ignore_overrun;
      overrun = lost && !cq->overrun.exchange(true);
    } else {
      CqEntry& entry = cq->ring[(cq->head + cq->count) % cq->ring.size()];
      entry.wc = wc;
      entry.time_ns = cq->timestamps ? WallClockNs() : 0;
      entry.slots = slots;
      Add(slots, 1);
      cq->count.store(cq->count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      if (cq->armed && (!cq->solicited_only || solicited || wc.status != IBV_WC_SUCCESS)) {
        cq->armed = false;
        notify = true;
      }
    }
  }
  if (notify) {
    Library::Get()->engine().OnDisarmed();
    if (cq->base.channel != nullptr) {
      reinterpret_cast<Channel*>(cq->base.channel)->events->Push(cq);
    }
  }
  if (overrun) {
    ibv_async_event event{};
    event.event_type = IBV_EVENT_CQ_ERR;
    event.element.cq = reinterpret_cast<ibv_cq*>(cq);
    PushAsync(cq->base.context, event);
  }
  return !lost;
}

void PurgeCompletions(Cq* cq, std::uint32_t qpn) {
  if (cq == nullptr) return;
  const std::lock_guard lock(cq->mutex);
  const std::size_t size = cq->ring.size();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < cq->count; ++i) {
    const CqEntry& entry = cq->ring[(cq->head + i) % size];
    if (entry.wc.qp_num == qpn) {
      Add(entry.slots, -1u);
    } else {
      cq->ring[(cq->head + kept++) % size] = entry;
    }
  }
  cq->count = kept;
}

int PopCompletions(Cq* cq, int max, CqEntry* out) {
  if (cq->count.load(std::memory_order_relaxed) == 0) return 0;
  const std::lock_guard lock(cq->mutex);
  const int count = static_cast<int>(std::min<std::size_t>(cq->count, static_cast<size_t>(max)));
  for (int i = 0; i < count; ++i) out[i] = TakeOldest(cq);
  return count;
}

int PollCq(ibv_cq* handle, int max, ibv_wc* out) {
  Cq* cq = From(handle);
  if (!Usable(cq, "ibv_poll_cq")) return -1;
  if (max <= 0) return 0;
  if (IsNull(out, "ibv_poll_cq", "wc")) return -1;
  Engine& engine = Library::Get()->engine();
  engine.CountPoll(cq);
  for (int attempt = 0;; ++attempt) {
    int taken = 0;
    if (cq->count.load(std::memory_order_relaxed) > 0 || cq->overrun) {
      const std::lock_guard lock(cq->mutex);
      while (taken < max && cq->count > 0) {
        out[taken++] = TakeOldest(cq).wc;
      }
      if (taken == 0 && cq->overrun) return -1;
    }
    if (taken > 0 || attempt > 0) return taken;
    engine.PollProgress(cq);
  }
}

int RequestNotify(ibv_cq* handle, int solicited_only) {
  Cq* cq = From(handle);
  if (!Usable(cq, "ibv_req_notify_cq")) return EINVAL;
  Engine& engine = Library::Get()->engine();
  bool fresh;
  {
    const std::lock_guard lock(cq->mutex);
    fresh = !cq->armed;
    // Asking for every completion includes the solicited ones, not the other way round.
    cq->solicited_only = solicited_only != 0 && (fresh || cq->solicited_only);
    cq->armed = true;
  }
  if (fresh) engine.OnArmed();
  return 0;
}

void FillCqReaders(ibv_cq_ex* cq) {
  cq->start_poll = StartPoll;
  cq->next_poll = NextPoll;
  cq->end_poll = [](ibv_cq_ex*) {};
  cq->read_opcode = [](ibv_cq_ex* c) { return Current(c).opcode; };
  cq->read_vendor_err = [](ibv_cq_ex* c) { return Current(c).vendor_err; };
  cq->read_byte_len = [](ibv_cq_ex* c) { return Current(c).byte_len; };
  cq->read_imm_data = [](ibv_cq_ex* c) { return Current(c).imm_data; };
  cq->read_qp_num = [](ibv_cq_ex* c) { return Current(c).qp_num; };
  cq->read_src_qp = [](ibv_cq_ex* c) { return Current(c).src_qp; };
  cq->read_wc_flags = [](ibv_cq_ex* c) { return static_cast<unsigned>(Current(c).wc_flags); };
  cq->read_slid = [](ibv_cq_ex* c) { return std::uint32_t{Current(c).slid}; };
  cq->read_sl = [](ibv_cq_ex* c) { return Current(c).sl; };
  cq->read_dlid_path_bits = [](ibv_cq_ex* c) { return Current(c).dlid_path_bits; };
  cq->read_completion_ts = [](ibv_cq_ex* c) { return From(c)->current.time_ns; };
  cq->read_completion_wallclock_ns = cq->read_completion_ts;
  cq->read_cvlan = [](ibv_cq_ex*) { return std::uint16_t{0}; };
  cq->read_flow_tag = [](ibv_cq_ex*) { return std::uint32_t{0}; };
}

}  // namespace oxmem::nex
