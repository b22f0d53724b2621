#ifndef RDMA_NEX_QP_SEND_RING_H_
#define RDMA_NEX_QP_SEND_RING_H_

#include <infiniband/verbs.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "rdma/nex/qp/work.h"

namespace oxmem::nex {

// One posted send request until it has completed.
struct SendWork {
  std::uint64_t wr_id = 0;
  std::uint64_t remote_address = 0;
  std::uint64_t operand = 0;
  std::uint64_t swap = 0;
  std::uint32_t index = 0;     // in the ring
  std::uint32_t sequence = 0;  // on the wire; local operations have none of their own
  std::uint32_t receive = 0;   // of the requests that use a receive of the peer
  std::uint32_t length = 0;
  std::uint32_t key = 0;        // remote key, or the key to bind
  std::uint32_t immediate = 0;  // as on the wire, or the key to invalidate
  std::uint32_t srq_number = 0;
  ibv_wr_opcode opcode = IBV_WR_SEND;
  ibv_wc_status error = IBV_WC_SUCCESS;  // found on this side, before anything was sent
  bool signaled = false;
  bool solicited = false;
  bool fenced = false;
  bool copied = false;  // the payload lies in the ring's copy area
  bool local_done = false;
  bool takes_receive = false;
  int sge_count = 0;
  ibv_sge* sges = nullptr;
  std::byte* copy = nullptr;
  BindWork bind;  // of BIND_MW
};

// A ring of send requests addressed by a running index, with room for their entries and
// inline data. Allocates only when made. One owner.
class SendRing {
 public:
  SendRing(std::uint32_t depth, int max_sges, std::uint32_t max_inline);

  bool empty() const { return head_ == tail_; }
  bool full() const { return tail_ - head_ == works_.size(); }
  std::uint32_t size() const { return tail_ - head_; }
  std::uint32_t head() const { return head_; }  // oldest index
  std::uint32_t tail() const { return tail_; }  // next to be given

  SendWork& At(std::uint32_t index) { return works_[index & (works_.size() - 1)]; }
  const SendWork& At(std::uint32_t index) const { return works_[index & (works_.size() - 1)]; }
  SendWork& Head() { return At(head_); }
  SendWork& PushTail();  // the ring must not be full
  void PopHead() { ++head_; }
  void Clear() { head_ = tail_; }

 private:
  std::vector<SendWork> works_;
  std::vector<ibv_sge> sges_;
  std::unique_ptr<std::byte[]> copies_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_QP_SEND_RING_H_
