#include "rdma/nex/qp/send_ring.h"

#include <algorithm>
#include <bit>

#include "transport/base/check.h"

namespace oxmem::nex {

// A power of two, so that indices stay right when the sequence numbers wrap around.
SendRing::SendRing(std::uint32_t depth, int max_sges, std::uint32_t max_inline)
    : works_(std::bit_ceil(std::max<std::uint32_t>(depth, 1))),
      sges_(works_.size() * static_cast<std::size_t>(max_sges)),
      copies_(max_inline == 0 ? nullptr : new std::byte[works_.size() * max_inline]) {
  for (std::size_t i = 0; i < works_.size(); ++i) {
    works_[i].sges = sges_.data() + i * static_cast<std::size_t>(max_sges);
    works_[i].copy = copies_ == nullptr ? nullptr : copies_.get() + i * max_inline;
  }
}

SendWork& SendRing::PushTail() {
  OXMEM_CHECK(!full());
  SendWork& work = At(tail_);
  ibv_sge* const sges = work.sges;
  std::byte* const copy = work.copy;
  work = SendWork{};
  work.sges = sges;
  work.copy = copy;
  work.index = tail_++;
  return work;
}

}  // namespace oxmem::nex
