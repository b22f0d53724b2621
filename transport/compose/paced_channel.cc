#include "transport/compose/paced_channel.h"

#include <algorithm>
#include <array>
#include <utility>

#include "transport/api/accounting.h"
#include "transport/api/validate.h"
#include "transport/compose/random.h"

namespace oxmem::transport {
namespace {

constexpr std::size_t kBatch = 32;

// How long `amount` takes at `per_second`, without overflow for any amount.
Duration TimeFor(uint64_t amount, uint64_t per_second) {
  const double seconds = static_cast<double>(amount) / static_cast<double>(per_second);
  return Duration::Nanoseconds(static_cast<int64_t>(std::min(seconds, 1e9) * 1e9));
}

}  // namespace

PacedChannel::PacedChannel(std::unique_ptr<Channel> below, const std::string& kind,
                           PacedOptions options)
    : ShimChannel(std::move(below), kind),
      options_(std::move(options)),
      slots_(limits_.depth),
      random_state_(options_.seed) {
  held_.reserve(limits_.depth);
}

Instant PacedChannel::DueTime(const Request& request, Instant now) {
  // What is refused never gets onto the link, however long it claims to be.
  if (Validate(request, limits_) != Code::kOk) return now;
  // Zeroing counts as the write of zeros that it is on the wires that have no shorter word for it.
  const bool moves_bytes =
      request.op == Op::kRead || request.op == Op::kWrite || request.op == Op::kZero;
  link_free_ = std::max(link_free_, now);
  if (options_.bytes_per_second != 0 && moves_bytes) {
    link_free_ = link_free_ + TimeFor(request.length, options_.bytes_per_second);
  }
  if (options_.requests_per_second != 0) {
    link_free_ = link_free_ + TimeFor(1, options_.requests_per_second);
  }
  Instant due = link_free_ + options_.latency;
  if (options_.jitter > Duration()) {
    const double share = NextFraction(random_state_);
    due = due + Duration::Nanoseconds(static_cast<int64_t>(
                    share * static_cast<double>(options_.jitter.nanoseconds())));
  }
  if (request.op == Op::kFlush) due = std::max(due, latest_due_);
  latest_due_ = std::max(latest_due_, due);
  return due;
}

std::size_t PacedChannel::Submit(std::span<const Request> requests) {
  if (requests.empty()) return 0;
  const Instant now = options_.clock();
  std::size_t taken = 0;
  while (taken < requests.size()) {
    std::array<Request, kBatch> batch;
    std::array<uint32_t, kBatch> slots;
    std::size_t count = 0;
    while (count < kBatch && taken + count < requests.size() &&
           in_flight_ + count < limits_.depth) {
      slots[count] = slots_.Take();
      batch[count] = requests[taken + count];
      batch[count].cookie = slots[count];
      ++count;
    }
    const std::size_t accepted = below_->Submit(std::span(batch).first(count));
    for (std::size_t i = 0; i < accepted; ++i) {
      const Request& request = requests[taken + i];
      Slot& slot = slots_[slots[i]];
      slot.cookie = request.cookie;
      slot.op = request.op;
      slot.start = now;
      slot.due = DueTime(request, now);
      slot.number = accepted_++;
    }
    for (std::size_t i = accepted; i < count; ++i) slots_.Give(slots[i]);
    taken += accepted;
    in_flight_ += accepted;
    if (accepted < kBatch) break;
  }
  stats_.in_flight.Set(in_flight_);
  return taken;
}

bool PacedChannel::Later(uint32_t a, uint32_t b) const {
  const Slot& x = slots_[a];
  const Slot& y = slots_[b];
  return x.due != y.due ? x.due > y.due : x.number > y.number;
}

std::size_t PacedChannel::Poll(std::span<Completion> completions) {
  std::array<Completion, kBatch> below;
  std::size_t count = below.size();
  while (count == below.size()) {
    count = below_->Poll(below);
    for (const Completion& completion : std::span(below).first(count)) {
      slots_[completion.cookie].completion = completion;
      held_.push_back(static_cast<uint32_t>(completion.cookie));
      std::push_heap(held_.begin(), held_.end(),
                     [this](uint32_t a, uint32_t b) { return Later(a, b); });
    }
  }
  if (!held_.empty()) Release(options_.clock());
  stats_.reconnects.Set(below_->stats().reconnects.value());
  return HandOut(completions);
}

// Moves what is due from the heap to the ring; after a close everything is.
void PacedChannel::Release(Instant now) {
  while (!held_.empty()) {
    const uint32_t index = held_.front();
    Slot& slot = slots_[index];
    if (slot.due > now && !closed_) return;
    std::pop_heap(held_.begin(), held_.end(),
                  [this](uint32_t a, uint32_t b) { return Later(a, b); });
    held_.pop_back();
    slot.completion.cookie = slot.cookie;
    CountCompletion(stats_, slot.op, slot.completion.code, slot.completion.bytes, now - slot.start);
    done_.Push(slot.completion);
    slots_.Give(index);
  }
}

bool PacedChannel::Arm() {
  if (!done_.empty() || !below_->Arm()) return false;
  return held_.empty() || !closed_;
}

Instant PacedChannel::next_deadline() const {
  const Instant below = below_->next_deadline();
  return held_.empty() ? below : std::min(below, slots_[held_.front()].due);
}

void PacedChannel::Close() {
  closed_ = true;
  below_->Close();
}

}  // namespace oxmem::transport
