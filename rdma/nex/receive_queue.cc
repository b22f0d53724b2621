#include "rdma/nex/receive_queue.h"

#include <errno.h>

#include <algorithm>

namespace oxmem::nex {

ReceiveQueue::ReceiveQueue(std::uint32_t depth, int max_sges, std::uint32_t domain)
    : max_sges_(std::max(max_sges, 1)),
      domain_(domain),
      depth_(depth),
      entries_(depth),
      sges_(static_cast<std::size_t>(depth) * static_cast<std::size_t>(max_sges_)) {}

int ReceiveQueue::Post(const ibv_recv_wr& wr, std::vector<Waiter>* waiters) {
  if (wr.num_sge < 0 || wr.num_sge > max_sges_) return EINVAL;
  if (wr.num_sge > 0 && wr.sg_list == nullptr) return EINVAL;
  const std::lock_guard lock(mutex_);
  if (count_ == depth_) return ENOMEM;
  const std::uint32_t slot = (head_ + count_) % depth_;
  entries_[slot] = {wr.wr_id, wr.num_sge};
  std::copy_n(wr.sg_list, wr.num_sge, &sges_[slot * static_cast<std::size_t>(max_sges_)]);
  ++count_;
  if (!waiters_.empty() && count_ >= wanted_) {
    waiters->insert(waiters->end(), waiters_.begin(), waiters_.end());
    waiters_.clear();
  }
  return 0;
}

bool ReceiveQueue::Take(ReceiveWork* work, Waiter waiter, bool* limit_reached) {
  const std::lock_guard lock(mutex_);
  *limit_reached = false;
  if (count_ == 0) {
    if (waiter != nullptr) RememberLocked(waiter, 1);
    return false;
  }
  const Entry& entry = entries_[head_];
  work->wr_id = entry.wr_id;
  work->domain = domain_;
  work->sge_count = entry.sge_count;
  std::copy_n(&sges_[head_ * static_cast<std::size_t>(max_sges_)], entry.sge_count,
              work->sges.begin());
  head_ = (head_ + 1) % depth_;
  --count_;
  if (count_ < limit_) {
    limit_ = 0;
    *limit_reached = true;
  }
  return true;
}

void ReceiveQueue::RememberLocked(Waiter waiter, std::uint32_t until) {
  wanted_ = waiters_.empty() ? until : std::min(wanted_, until);
  if (std::find(waiters_.begin(), waiters_.end(), waiter) == waiters_.end()) {
    waiters_.push_back(waiter);
  }
}

std::uint32_t ReceiveQueue::Await(Waiter waiter) {
  const std::lock_guard lock(mutex_);
  const std::uint32_t few = depth_ / 4;
  if (count_ == 0 || count_ < few) RememberLocked(waiter, count_ == 0 ? 1 : few);
  return count_;
}

void ReceiveQueue::Forget(Waiter waiter) {
  const std::lock_guard lock(mutex_);
  std::erase(waiters_, waiter);
}

void ReceiveQueue::Clear() {
  const std::lock_guard lock(mutex_);
  head_ = count_ = 0;
}

void ReceiveQueue::Close() {
  closed_.store(true, std::memory_order_release);
  const std::lock_guard lock(mutex_);
  head_ = count_ = depth_ = limit_ = 0;
  entries_ = {};
  sges_ = {};
  waiters_.clear();
}

int ReceiveQueue::Resize(std::uint32_t depth) {
  const std::lock_guard lock(mutex_);
  if (depth < count_ || depth == 0) return EINVAL;
  const auto width = static_cast<std::size_t>(max_sges_);
  std::vector<Entry> entries(depth);
  std::vector<ibv_sge> sges(depth * width);
  for (std::uint32_t i = 0; i < count_; ++i) {
    const std::uint32_t from = (head_ + i) % depth_;
    entries[i] = entries_[from];
    std::copy_n(&sges_[from * width], width, &sges[i * width]);
  }
  entries_ = std::move(entries);
  sges_ = std::move(sges);
  head_ = 0;
  depth_ = depth;
  return 0;
}

bool ReceiveQueue::SetLimit(std::uint32_t limit) {
  const std::lock_guard lock(mutex_);
  if (limit > depth_) return false;
  limit_ = limit;
  return true;
}

std::uint32_t ReceiveQueue::limit() {
  const std::lock_guard lock(mutex_);
  return limit_;
}

std::uint32_t ReceiveQueue::depth() {
  const std::lock_guard lock(mutex_);
  return depth_;
}

std::uint32_t ReceiveQueue::size() {
  const std::lock_guard lock(mutex_);
  return count_;
}

}  // namespace oxmem::nex
