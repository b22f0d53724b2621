#include "transport/compose/striped_channel.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/api/accounting.h"
#include "transport/api/validate.h"
#include "transport/base/check.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

constexpr std::size_t kBatch = 32;
constexpr uint32_t kMaxDepth = 4096;

Limits StripedLimits(const Legs& legs, uint64_t chunk_bytes) {
  Limits limits = legs.CommonLimits();
  limits.size_bytes = limits.size_bytes / chunk_bytes * chunk_bytes * legs.size();
  // Parts are never longer than a chunk, so the legs set no bound.
  limits.largest_request_bytes = uint64_t{64} << 20;
  limits.depth = std::min(limits.depth, kMaxDepth);
  return limits;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StripedChannel>> StripedChannel::Create(
    std::vector<std::unique_ptr<Channel>> legs, uint64_t chunk_bytes) {
  OXMEM_ASSIGN_OR_RETURN(Legs checked, Legs::Create(std::move(legs)));
  const Limits common = checked.CommonLimits();
  const uint64_t unit = std::lcm<uint64_t>(common.alignment_bytes, 8);
  if (chunk_bytes == 0 || chunk_bytes % unit != 0) {
    return absl::InvalidArgumentError(absl::StrCat("chunk of ", FormatSize(chunk_bytes),
                                                   " is not a multiple of ", FormatSize(unit)));
  }
  if (chunk_bytes > common.largest_request_bytes || chunk_bytes > common.size_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk of ", FormatSize(chunk_bytes), " is more than the legs take (",
                     FormatSize(std::min(common.largest_request_bytes, common.size_bytes)), ")"));
  }
  if (!CheckedMultiply(common.size_bytes, checked.size())) {
    return absl::InvalidArgumentError("the legs together are past 2^64 bytes");
  }
  return std::unique_ptr<StripedChannel>(new StripedChannel(std::move(checked), chunk_bytes));
}

StripedChannel::StripedChannel(Legs legs, uint64_t chunk_bytes)
    : legs_(std::move(legs)),
      chunk_bytes_(chunk_bytes),
      limits_(StripedLimits(legs_, chunk_bytes)),
      name_(legs_.Name("stripe")),
      slots_(limits_.depth),
      queues_(legs_.size(), FixedQueue<Work>(limits_.depth)),
      done_(limits_.depth) {}

std::size_t StripedChannel::Submit(std::span<const Request> requests) {
  if (requests.empty()) return 0;
  const Instant now = Now();
  std::size_t taken = 0;
  for (const Request& request : requests) {
    if (in_flight_ == limits_.depth) break;
    ++in_flight_;
    ++taken;
    const Code code = closed_ ? Code::kClosed : Validate(request, limits_);
    const bool nothing_to_do = request.length == 0 && request.op != Op::kFlush;
    if (code == Code::kOk && !nothing_to_do) {
      Start(request, now);
      continue;
    }
    CountCompletion(stats_, request.op, code, 0, Duration());
    done_.Push({.cookie = request.cookie, .code = code});
  }
  stats_.in_flight.Set(in_flight_);
  for (std::size_t leg = 0; leg < legs_.size(); ++leg) Issue(leg);
  return taken;
}

void StripedChannel::Start(const Request& request, Instant now) {
  const uint32_t slot = slots_.Take();
  slots_[slot].request = request;
  slots_[slot].start = now;
  switch (request.op) {
    case Op::kRead:
    case Op::kWrite:
      return StartTransfer(slot);
    case Op::kZero:
    case Op::kPrefetch:
      return StartRange(slot);
    case Op::kFlush:
      return StartFlush(slot);
    case Op::kAtomic:
      return StartAtomic(slot);
  }
  OXMEM_CHECK(false);
}

void StripedChannel::StartTransfer(uint32_t slot) {
  Slot& state = slots_[slot];
  const uint64_t first = state.request.offset / chunk_bytes_;
  const uint64_t last = (state.request.offset + state.request.length - 1) / chunk_bytes_;
  for (uint64_t chunk = first; chunk <= last && chunk < first + legs_.size(); ++chunk) {
    const Work work{.slot = slot, .next_chunk = chunk};
    state.parts_left += PartsLeft(work);
    queues_[chunk % legs_.size()].Push(work);
  }
}

// The chunks of a range that lie on one leg are neighbours there: one part a leg.
void StripedChannel::StartRange(uint32_t slot) {
  Slot& state = slots_[slot];
  const uint64_t first = state.request.offset / chunk_bytes_;
  const uint64_t last = (state.request.offset + state.request.length - 1) / chunk_bytes_;
  for (uint64_t chunk = first; chunk <= last && chunk < first + legs_.size(); ++chunk) {
    ++state.parts_left;
    queues_[chunk % legs_.size()].Push({.slot = slot, .next_chunk = chunk});
  }
}

void StripedChannel::StartFlush(uint32_t slot) {
  // Behind all earlier parts of every leg's queue, so that each leg's own order is enough.
  slots_[slot].parts_left = legs_.size();
  for (auto& queue : queues_) queue.Push({.slot = slot});
}

void StripedChannel::StartAtomic(uint32_t slot) {
  slots_[slot].parts_left = 1;
  const uint64_t chunk = slots_[slot].request.offset / chunk_bytes_;
  queues_[chunk % legs_.size()].Push({.slot = slot, .next_chunk = chunk});
}

uint64_t StripedChannel::LegOffset(uint64_t offset) const {
  return offset / chunk_bytes_ / legs_.size() * chunk_bytes_ + offset % chunk_bytes_;
}

uint64_t StripedChannel::PartsLeft(const Work& work) {
  const Request& request = slots_[work.slot].request;
  if (request.op != Op::kRead && request.op != Op::kWrite) return 1;
  const uint64_t last = (request.offset + request.length - 1) / chunk_bytes_;
  return (last - work.next_chunk) / legs_.size() + 1;
}

Request StripedChannel::RangePart(std::size_t leg, const Request& whole) const {
  const uint64_t end = whole.offset + whole.length;
  const uint64_t last = (end - 1) / chunk_bytes_;
  // The first and the last chunk of the range on this leg.
  const uint64_t first = whole.offset / chunk_bytes_;
  const uint64_t n = legs_.size();
  const uint64_t leg_first = first + (leg + n - first % n) % n;
  const uint64_t leg_last = last - (last % n + n - leg) % n;
  const uint64_t begin = LegOffset(std::max(whole.offset, leg_first * chunk_bytes_));
  const uint64_t last_byte = LegOffset(std::min(end, (leg_last + 1) * chunk_bytes_) - 1);
  return {.op = whole.op, .offset = begin, .length = last_byte + 1 - begin};
}

StripedChannel::Part StripedChannel::NextPart(std::size_t leg, const Work& work) {
  const Request& whole = slots_[work.slot].request;
  Part part{.request = whole, .last_of_work = PartsLeft(work) == 1};
  switch (whole.op) {
    case Op::kRead:
    case Op::kWrite: {
      const uint64_t begin = std::max(whole.offset, work.next_chunk * chunk_bytes_);
      const uint64_t end =
          std::min(whole.offset + whole.length, (work.next_chunk + 1) * chunk_bytes_);
      part.request.offset = LegOffset(begin);
      part.request.length = end - begin;
      part.request.buffer = whole.buffer + (begin - whole.offset);
      break;
    }
    case Op::kZero:
    case Op::kPrefetch:
      part.request = RangePart(leg, whole);
      break;
    case Op::kFlush:
      break;
    case Op::kAtomic:
      part.request.offset = LegOffset(whole.offset);
      break;
  }
  part.request.cookie = work.slot;
  return part;
}

// Gives a leg as much of its queue as it takes, in batches.
void StripedChannel::Issue(std::size_t leg) {
  FixedQueue<Work>& queue = queues_[leg];
  while (!queue.empty()) {
    std::array<Request, kBatch> batch;
    std::array<bool, kBatch> last_of_work;
    std::size_t count = 0;
    for (std::size_t i = 0; i < queue.size() && count < kBatch; ++i) {
      for (Work work = queue[i]; count < kBatch; work.next_chunk += legs_.size()) {
        const Part part = NextPart(leg, work);
        batch[count] = part.request;
        last_of_work[count++] = part.last_of_work;
        if (part.last_of_work) break;
      }
    }
    const std::size_t taken = legs_[leg].Submit(std::span(batch).first(count));
    for (std::size_t i = 0; i < taken; ++i) {
      if (last_of_work[i]) {
        queue.Pop();
      } else {
        queue.front().next_chunk += legs_.size();
      }
    }
    if (taken < count) return;
  }
}

std::size_t StripedChannel::Poll(std::span<Completion> completions) {
  std::array<Completion, kBatch> parts;
  for (std::size_t leg = 0; leg < legs_.size(); ++leg) {
    std::size_t count = parts.size();
    while (count == parts.size()) {
      count = legs_[leg].Poll(parts);
      if (count == 0) break;
      const Instant now = Now();
      for (const Completion& part : std::span(parts).first(count)) FinishPart(leg, part, now);
    }
    Issue(leg);
  }
  legs_.SumReconnects(stats_);
  const std::size_t count = done_.Pop(completions);
  in_flight_ -= count;
  stats_.in_flight.Set(in_flight_);
  return count;
}

void StripedChannel::FinishPart(std::size_t leg, const Completion& completion, Instant now) {
  Slot& slot = slots_[completion.cookie];
  if (slot.request.op == Op::kAtomic) slot.old_value = completion.old_value;
  if (completion.code != Code::kOk && slot.code == Code::kOk) {
    slot.code = completion.code;
    slot.provider_code = completion.provider_code;
  }
  FinishParts(static_cast<uint32_t>(completion.cookie), 1, now);
  // What waits behind a leg whose peer is gone would only start its own timeout after this one.
  if (completion.code == Code::kTimedOut || completion.code == Code::kPeerLost) {
    FailQueued(leg, completion.code, completion.provider_code);
  }
}

// Flushes stay: they must not complete before the parts that the leg has taken already.
void StripedChannel::FailQueued(std::size_t leg, Code code, int32_t provider_code) {
  FixedQueue<Work>& queue = queues_[leg];
  const Instant now = Now();
  for (std::size_t left = queue.size(); left > 0; --left) {
    const Work work = queue.front();
    queue.Pop();
    Slot& slot = slots_[work.slot];
    if (slot.request.op == Op::kFlush) {
      queue.Push(work);
      continue;
    }
    if (slot.code == Code::kOk) {
      slot.code = code;
      slot.provider_code = provider_code;
    }
    FinishParts(work.slot, PartsLeft(work), now);
  }
}

void StripedChannel::FinishParts(uint32_t index, uint64_t count, Instant now) {
  Slot& slot = slots_[index];
  slot.parts_left -= count;
  if (slot.parts_left != 0) return;
  const bool moves_bytes = slot.request.op != Op::kFlush;
  const uint64_t bytes = slot.code == Code::kOk && moves_bytes ? slot.request.length : 0;
  CountCompletion(stats_, slot.request.op, slot.code, bytes, now - slot.start);
  done_.Push({.cookie = slot.request.cookie,
              .bytes = bytes,
              .old_value = slot.old_value,
              .code = slot.code,
              .provider_code = slot.provider_code});
  slots_.Give(index);
}

bool StripedChannel::Arm() {
  legs_.SumWireStats(stats_);
  return done_.empty() && legs_.Arm();
}

void StripedChannel::Close() {
  if (closed_) return;
  closed_ = true;
  legs_.Close();
  for (std::size_t leg = 0; leg < legs_.size(); ++leg) FailQueued(leg, Code::kClosed, 0);
}

}  // namespace oxmem::transport
