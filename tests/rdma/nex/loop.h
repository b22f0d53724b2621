#ifndef TESTS_RDMA_NEX_LOOP_H_
#define TESTS_RDMA_NEX_LOOP_H_

#include <infiniband/verbs.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <random>
#include <vector>

#include "rdma/nex/qp/queue_pair.h"
#include "rdma/nex/region_table.h"

namespace oxmem::nex {

// A receive queue as simple as can be.
class ListReceives : public ReceiveSource {
 public:
  bool Take(ReceiveWork* work) override {
    if (works.empty()) return false;
    *work = works.front();
    works.pop_front();
    return true;
  }
  std::uint32_t Await() override { return static_cast<std::uint32_t>(works.size()); }
  std::uint32_t domain() const override { return 1; }
  std::deque<ReceiveWork> works;
};

// Two queue pair machines joined by two byte pipes that cut the stream anywhere; a virtual clock;
// no socket, no thread. The seed decides the cuts.
class Loop {
 public:
  static constexpr std::size_t kMemory = 1 << 20;

  struct Side {
    std::vector<std::byte> memory = std::vector<std::byte>(kMemory);
    std::unique_ptr<RegionTable> regions;
    Region* region = nullptr;
    ListReceives receives;
    std::unique_ptr<QueuePair> qp;
    std::deque<std::byte> inbox;
    std::vector<Completion> done;
    bool closed = false;

    std::uint32_t key() const { return region->key.load(); }
    std::uint64_t at(std::size_t offset) const {
      return reinterpret_cast<std::uintptr_t>(memory.data()) + offset;
    }
  };

  // Shared receives are those of which a sender is not told.
  explicit Loop(std::uint32_t seed, ibv_qp_type type = IBV_QPT_RC,
                QueuePair::Parameters parameters = DefaultParameters(),
                bool shared_receives = false)
      : random_(seed) {
    for (int i = 0; i < 2; ++i) {
      Side& side = sides[i];
      side.regions = std::make_unique<RegionTable>(
          64, [this] { return static_cast<std::uint32_t>(random_()); });
      side.region = side.regions->Add(1, side.memory.data(), side.at(0), kMemory, kAllAccess);
      QpIdentity identity;
      identity.qpn = static_cast<std::uint32_t>(100 + i);
      identity.domain = 1;
      identity.type = type;
      identity.reliable = type == IBV_QPT_RC;
      identity.shared_receives = shared_receives;
      identity.max_inline = 512;
      identity.max_send_sges = kMaxSges;
      identity.send_depth = 64;
      side.qp = std::make_unique<QueuePair>(identity, side.regions.get(), &side.receives, nullptr);
      side.qp->Configure(parameters);
      side.qp->SetSending(true, now);
      side.qp->Attach();
    }
  }

  static constexpr std::uint32_t kAllAccess = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                                              IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC |
                                              IBV_ACCESS_MW_BIND;
  static QueuePair::Parameters DefaultParameters() {
    QueuePair::Parameters parameters;
    parameters.requester.max_reads = 16;
    parameters.requester.rnr_retries = 7;
    parameters.access = kAllAccess;
    parameters.rnr_timer = 12;
    parameters.peer_timeout = Duration::Seconds(1);
    return parameters;
  }

  // Moves bytes until both sides are quiet.
  void Run() {
    while (Step(0) | Step(1)) {
    }
  }

  void AdvanceTo(Instant when) {
    now = when;
    for (Side& side : sides) {
      side.qp->OnDeadline(now);
      Collect(side);
    }
    Run();
  }

  int Send(int from, ibv_send_wr wr, std::vector<ibv_sge> sges = {}) {
    wr.sg_list = sges.data();
    wr.num_sge = static_cast<int>(sges.size());
    const int error = sides[from].qp->Post(wr, nullptr, now);
    Collect(sides[from]);
    return error;
  }

  void Receive(int at, std::uint64_t wr_id, std::vector<ibv_sge> sges) {
    ReceiveWork work;
    work.wr_id = wr_id;
    work.domain = 1;
    work.sge_count = static_cast<int>(sges.size());
    std::copy(sges.begin(), sges.end(), work.sges.begin());
    sides[at].receives.works.push_back(work);
    sides[at].qp->OnReceiveAvailable();
  }

  ibv_sge Local(int side, std::size_t offset, std::uint32_t length) const {
    return {sides[side].at(offset), length, sides[side].key()};
  }

  void Collect(Side& side) {
    auto& from = side.qp->completions();
    side.done.insert(side.done.end(), from.begin(), from.end());
    from.clear();
  }

  void Cut(int side) {
    sides[side].qp->Detach(now);
    sides[side].closed = true;
    Collect(sides[side]);
  }

  void CutBoth() {
    Cut(0);
    Cut(1);
  }
  // Another stream between the two, of which nothing has gone yet.
  void Join() {
    for (Side& side : sides) {
      side.inbox.clear();
      side.closed = false;
      side.qp->Attach();
    }
  }

  Side sides[2];
  Instant now = Instant::FromNanoseconds(1);

 private:
  bool Step(int index) {
    Side& side = sides[index];
    Side& peer = sides[1 - index];
    bool moved = false;
    if (!side.closed) {
      IoBatch batch;
      if (!side.qp->FillOutput(&batch, random_() % 2 == 0 || side.qp->ack_due())) {
        Cut(index);
        Cut(1 - index);
      }
      std::size_t left = batch.bytes == 0 ? 0 : 1 + random_() % batch.bytes;
      const std::size_t wrote = left;
      for (int i = 0; i < batch.piece_count && left > 0; ++i) {
        const std::size_t take = std::min(left, batch.pieces[i].iov_len);
        const auto* bytes = static_cast<const std::byte*>(batch.pieces[i].iov_base);
        peer.inbox.insert(peer.inbox.end(), bytes, bytes + take);
        left -= take;
      }
      batch.Release();
      if (wrote > 0) side.qp->OnWritten(wrote);
      moved = wrote > 0;
      Collect(side);
    }
    if (!side.inbox.empty() && !side.closed) {
      const std::size_t take = 1 + random_() % side.inbox.size();
      const std::vector<std::byte> bytes(side.inbox.begin(),
                                         side.inbox.begin() + static_cast<std::ptrdiff_t>(take));
      side.inbox.erase(side.inbox.begin(), side.inbox.begin() + static_cast<std::ptrdiff_t>(take));
      if (!side.qp->OnBytes(bytes, now)) Cut(index);
      Collect(side);
      moved = true;
    }
    return moved;
  }

  std::mt19937 random_;
};

}  // namespace oxmem::nex

#endif  // TESTS_RDMA_NEX_LOOP_H_
