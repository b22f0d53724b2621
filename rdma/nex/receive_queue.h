#ifndef RDMA_NEX_RECEIVE_QUEUE_H_
#define RDMA_NEX_RECEIVE_QUEUE_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "rdma/nex/qp/work.h"

namespace oxmem::nex {

// A bounded queue of posted receives, of one queue pair or shared by many. Thread-safe. `Waiter`
// handles are remembered when the queue was found empty, or nearly so, and handed out when that
// changes.
class ReceiveQueue {
 public:
  using Waiter = void*;

  ReceiveQueue(std::uint32_t depth, int max_sges, std::uint32_t domain);

  // 0, EINVAL (too many entries) or ENOMEM (full). When someone waits for a receive, the waiters
  // are appended to *waiters and forgotten here.
  int Post(const ibv_recv_wr& wr, std::vector<Waiter>* waiters);
  // False when empty; `waiter` (not nullptr) is then remembered. *limit_reached: the queue has
  // just fallen below its limit, which is thereby disarmed.
  bool Take(ReceiveWork* work, Waiter waiter, bool* limit_reached);
  // How many are posted. Fewer than a quarter of the depth: `waiter` is remembered until there are
  // so many, or, when there are none, until there is one.
  std::uint32_t Await(Waiter waiter);
  void Forget(Waiter waiter);
  void Clear();
  // For good: gives back its memory; nothing can be posted or taken any more.
  void Close();
  bool closed() const { return closed_.load(std::memory_order_acquire); }

  int Resize(std::uint32_t depth);  // EINVAL when more than `depth` are posted
  bool SetLimit(std::uint32_t limit);
  std::uint32_t limit();
  std::uint32_t depth();
  std::uint32_t size();
  int max_sges() const { return max_sges_; }
  std::uint32_t domain() const { return domain_; }

 private:
  struct Entry {
    std::uint64_t wr_id = 0;
    int sge_count = 0;
  };

  const int max_sges_;
  const std::uint32_t domain_;
  std::atomic<bool> closed_{false};
  std::mutex mutex_;
  std::uint32_t depth_;
  std::uint32_t limit_ = 0;
  std::vector<Entry> entries_;
  std::vector<ibv_sge> sges_;
  std::uint32_t head_ = 0;
  std::uint32_t count_ = 0;
  void RememberLocked(Waiter waiter, std::uint32_t until);

  std::vector<Waiter> waiters_;
  std::uint32_t wanted_ = 0;  // posted receives at which the waiters are handed out
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_RECEIVE_QUEUE_H_
