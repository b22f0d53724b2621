#include "tests/sim/memory_world.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/check.h"

namespace oxmem::sim {
namespace {

using transport::Code;
using transport::Completion;
using transport::Op;

constexpr Duration kRequestTimeout = Duration::Seconds(2);

bool Writes(const transport::Request& request) {
  return request.op == Op::kWrite || request.op == Op::kAtomic;
}

}  // namespace

MemoryWorld::MemoryWorld(uint64_t seed, const WorldOptions& options)
    : random_(seed),
      options_(options),
      network_(seed),
      memory_(kSize),
      model_(kSize),
      uncertain_(kSize, false) {
  constexpr std::size_t kFrameBytes[] = {560, 1500, 1500, 9000};
  max_frame_bytes_ = kFrameBytes[random_.Below(4)];
  // One run in two crosses the wrap of the sequence numbers.
  initial_sequence_ =
      random_.Chance(0.5) ? 0 : static_cast<uint32_t>((1 << 22) - 1 - random_.Below(300));
  StartNode();
  const uint64_t requesters = 1 + random_.Below(3);
  for (uint64_t i = 0; i < requesters; ++i) AddRequester();
}

// Channels say goodbye on their links, which must still be there.
MemoryWorld::~MemoryWorld() { requesters_.clear(); }

void MemoryWorld::StartNode() {
  OXMEM_CHECK(node_ == nullptr);
  node::RegionMap regions;
  OXMEM_CHECK(regions.Add({.name = "data", .base = kBase, .memory = memory_}).ok());
  node::NodeConfig config;
  config.engine.initial_sequence = initial_sequence_;
  if (node_address_ != link::Address{}) network_.ReuseAddress(node_address_);
  auto link = network_.Attach(max_frame_bytes_);
  node_address_ = link->local_address();
  node_ = std::make_unique<node::Node>(config, std::move(link), std::move(regions));
}

void MemoryWorld::KillNode() { node_.reset(); }

void MemoryWorld::AddRequester() {
  channel::Options options;
  options.size_bytes = kSize;
  options.base_address = kBase;
  options.depth = static_cast<uint32_t>(1 + random_.Below(32));
  options.request_timeout = kRequestTimeout;
  options.engine.protocol = options_.protocol;
  options.engine.initial_sequence = initial_sequence_;
  options.engine.window_frames = 4 + random_.Below(200);
  if (random_.Chance(0.3)) {
    options.engine.receive_flits[3] = 2048u << random_.Below(4);  // answers are scarce of credits
  }
  Requester requester;
  auto link = network_.Attach(max_frame_bytes_);
  requester.address = link->local_address();
  auto channel = channel::TloeChannel::Start(std::move(link), node_address_, std::move(options),
                                             network_.now());
  OXMEM_CHECK(channel.ok());
  requester.channel = *std::move(channel);
  requesters_.push_back(std::move(requester));
}

void MemoryWorld::RestartRequester() {
  const std::size_t index = random_.Below(requesters_.size());
  network_.SetUp(requesters_[index].channel->link(), false);  // it dies without a goodbye
  const link::Address address = requesters_[index].address;
  requesters_.erase(requesters_.begin() + static_cast<long>(index));
  for (auto& [cookie, operation] : under_way_) {
    if (operation.requester == index) {
      operation.requester = kDead;
    } else if (operation.requester != kDead && operation.requester > index) {
      --operation.requester;
    }
  }
  // A host is away for longer than its frames stay under way; until then its operations may still
  // reach the memory.
  RunFor(Duration::Milliseconds(40), true);
  for (auto it = under_way_.begin(); it != under_way_.end();) {
    if (it->second.requester != kDead) {
      ++it;
      continue;
    }
    MakeUncertain(it->second);
    it = under_way_.erase(it);
  }
  network_.ReuseAddress(address);
  AddRequester();
}

void MemoryWorld::RunFor(Duration time, bool busy) {
  const Instant end = network_.now() + time;
  while (network_.now() < end && error_.empty()) {
    Step(busy);
    network_.AdvanceTo(
        std::clamp(NextEvent(busy), network_.now() + Duration::Microseconds(1), end));
  }
  Step(busy);
}

bool MemoryWorld::RunUntilIdle(Duration at_most) {
  const Instant end = network_.now() + at_most;
  while (!under_way_.empty() && network_.now() < end && error_.empty()) {
    RunFor(Duration::Milliseconds(1), false);
  }
  return under_way_.empty();
}

void MemoryWorld::Step(bool busy) {
  const Instant now = network_.now();
  if (node_ != nullptr) {
    while (node_->Poll(now)) {
    }
  }
  for (std::size_t i = 0; i < requesters_.size(); ++i) {
    Collect(i);
    if (!busy || now < requesters_[i].next_begin) continue;
    Begin(i);
    requesters_[i].next_begin =
        now + Duration::Microseconds(1 + static_cast<int64_t>(random_.Below(400)));
  }
}

Instant MemoryWorld::NextEvent(bool busy) const {
  Instant next = network_.next_arrival();
  if (node_ != nullptr) next = std::min(next, node_->next_deadline());
  for (const Requester& requester : requesters_) {
    next = std::min(next, requester.channel->next_deadline());
    if (busy) next = std::min(next, requester.next_begin);
  }
  return next;
}

bool MemoryWorld::Overlaps(uint64_t offset, uint64_t length, bool writes) const {
  for (const auto& [cookie, operation] : under_way_) {
    const transport::Request& other = operation.request;
    if (!writes && !Writes(other)) continue;
    if (offset < other.offset + other.length && other.offset < offset + length) return true;
  }
  return false;
}

void MemoryWorld::Begin(std::size_t requester) {
  Operation operation;
  operation.requester = requester;
  transport::Request& request = operation.request;
  const uint64_t kind = random_.Below(100);
  request.op = kind < 45   ? Op::kRead
               : kind < 90 ? Op::kWrite
               : kind < 96 ? Op::kAtomic
               : kind < 98 ? Op::kFlush
                           : Op::kPrefetch;
  request.cookie = next_cookie_++;
  if (request.op == Op::kAtomic) {
    request.length = random_.Chance(0.5) ? 4 : 8;
    request.offset = random_.Below(kSize / request.length) * request.length;
    request.operand = random_.Next();
  } else if (request.op != Op::kFlush) {
    request.length = 1 + random_.Below(random_.Chance(0.1) ? 20000 : 3000);
    request.offset = random_.Below(kSize - request.length);
  }
  if (Overlaps(request.offset, request.length, Writes(request))) return;
  operation.data.resize(request.length);
  if (request.op == Op::kWrite) {
    for (std::byte& byte : operation.data) byte = static_cast<std::byte>(random_.Next());
  }
  const auto placed = under_way_.emplace(request.cookie, std::move(operation)).first;
  placed->second.request.buffer = placed->second.data.data();
  const std::size_t taken =
      requesters_[requester].channel->SubmitAt(network_.now(), {&placed->second.request, 1});
  if (taken == 0) {
    under_way_.erase(placed);
  } else {
    ++begun_;
  }
}

void MemoryWorld::Collect(std::size_t requester) {
  Completion completions[8];
  std::size_t count = 0;
  do {
    count = requesters_[requester].channel->PollAt(network_.now(), completions);
    for (std::size_t i = 0; i < count; ++i) OnCompletion(completions[i]);
  } while (count == std::size(completions));
}

void MemoryWorld::OnCompletion(const Completion& completion) {
  const auto found = under_way_.find(completion.cookie);
  if (found == under_way_.end()) {
    Wrong(absl::StrCat("operation ", completion.cookie, " completed twice or was never begun"));
    return;
  }
  const Operation operation = std::move(found->second);
  under_way_.erase(found);
  if (completion.code != Code::kOk) {
    ++failed_;
    MakeUncertain(operation);
    return;
  }
  ++succeeded_;
  if (completion.bytes != operation.request.length) Wrong("a success moved too few bytes");
  if (operation.request.op == Op::kRead) CheckRead(operation);
  if (operation.request.op == Op::kAtomic) CheckAtomic(operation, completion);
  if (operation.request.op == Op::kWrite) {
    const uint64_t offset = operation.request.offset;
    std::copy(operation.data.begin(), operation.data.end(),
              model_.begin() + static_cast<long>(offset));
    std::fill_n(uncertain_.begin() + static_cast<long>(offset), operation.data.size(), false);
  }
}

void MemoryWorld::CheckRead(const Operation& operation) {
  if (!options_.check_contents) return;
  for (uint64_t i = 0; i < operation.data.size(); ++i) {
    const uint64_t at = operation.request.offset + i;
    if (uncertain_[at] || operation.data[i] == model_[at]) continue;
    Wrong(absl::StrCat("a read of ", operation.data.size(), " at ", operation.request.offset,
                       " has the wrong byte ", i));
    return;
  }
}

void MemoryWorld::CheckAtomic(const Operation& operation, const Completion& completion) {
  const transport::Request& request = operation.request;
  const auto at = static_cast<long>(request.offset);
  const auto length = static_cast<long>(request.length);
  const bool certain = std::none_of(uncertain_.begin() + at, uncertain_.begin() + at + length,
                                    [](bool uncertain) { return uncertain; });
  uint64_t old_value = 0;
  std::memcpy(&old_value, model_.data() + at, request.length);
  if (!certain) old_value = completion.old_value;
  if (options_.check_contents && old_value != completion.old_value) {
    Wrong(absl::StrCat("an atomic at ", request.offset, " found the wrong value"));
  }
  const uint64_t sum = old_value + request.operand;
  std::memcpy(model_.data() + at, &sum, request.length);
  std::fill_n(uncertain_.begin() + at, length, false);
}

void MemoryWorld::MakeUncertain(const Operation& operation) {
  if (!Writes(operation.request)) return;
  std::fill_n(uncertain_.begin() + static_cast<long>(operation.request.offset),
              operation.request.length, true);
}

bool MemoryWorld::has_shortened() const {
  return std::any_of(requesters_.begin(), requesters_.end(), [this](const Requester& requester) {
    return requester.channel->engine().config().max_frame_bytes < max_frame_bytes_;
  });
}

void MemoryWorld::CheckMemory() {
  if (!options_.check_contents) return;
  for (uint64_t i = 0; i < kSize; ++i) {
    if (uncertain_[i] || memory_[i] == model_[i]) continue;
    Wrong(absl::StrCat("memory differs from the model at ", i));
    return;
  }
}

void MemoryWorld::Wrong(const std::string& what) {
  if (error_.empty()) {
    error_ = absl::StrCat(what, " (after ", begun_, " operations, at ",
                          network_.now().nanoseconds() / 1000, " us)");
  }
}

}  // namespace oxmem::sim
