#include "apps/load/load_worker.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/base/byte_order.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

using transport::AtomicOp;
using transport::Code;
using transport::Completion;
using transport::Op;
using transport::Request;

constexpr uint64_t kAtomicBytes = 8;
constexpr std::size_t kBufferAlignment = 64;
// How long a sleeping worker may not notice that it is told to end.
constexpr Duration kControlInterval = Duration::Milliseconds(20);
// A random walk of a verifying load looks this often for a block that has nothing under way.
constexpr int kTriesForIdleBlock = 8;

absl::Status Refuse(const std::string& why) { return absl::InvalidArgumentError(why); }

absl::Status CheckOptions(const transport::Channel& channel, const LoadOptions& options) {
  const transport::Limits& limits = channel.limits();
  if (options.size == 0 || options.depth == 0) return Refuse("size and depth must not be zero");
  if (options.depth > limits.depth) {
    return Refuse(absl::StrCat("depth ", options.depth, " is more than the ", limits.depth,
                               " requests that ", channel.name(),
                               " takes at once (the depth= of the source?)"));
  }
  if (!RangeFits(options.offset, options.range, limits.size_bytes)) {
    return Refuse(absl::StrCat("the range of ", FormatSize(options.range), " at ",
                               FormatSize(options.offset), " does not lie within the ",
                               FormatSize(limits.size_bytes), " of ", channel.name()));
  }
  if (options.range < options.size) {
    return Refuse(absl::StrCat("no block of ", FormatSize(options.size), " fits into the range of ",
                               FormatSize(options.range)));
  }
  const bool modifies = options.op != LoadOp::kRead || options.verify;
  if (modifies && limits.read_only) return Refuse(absl::StrCat(channel.name(), " is read-only"));
  const AtomicOp atomic = options.verify ? AtomicOp::kSwap : AtomicOp::kAdd;
  if (options.op == LoadOp::kAtomic && !limits.atomics.Has(atomic)) {
    return Refuse(absl::StrCat(channel.name(), " has no atomic operations"));
  }
  // Every block has the length and the alignment of the first one.
  if (options.size > limits.largest_request_bytes || options.size % limits.alignment_bytes != 0 ||
      options.offset % limits.alignment_bytes != 0) {
    return Refuse(absl::StrCat("requests of ", FormatSize(options.size), " at ",
                               FormatSize(options.offset), ": ", channel.name(), " takes up to ",
                               FormatSize(limits.largest_request_bytes), ", multiples of ",
                               limits.alignment_bytes));
  }
  if (options.op == LoadOp::kAtomic && options.offset % kAtomicBytes != 0) {
    return Refuse(absl::StrCat("offset ", options.offset, " is not a multiple of 8"));
  }
  return absl::OkStatus();
}

const char* OpWord(Op op) {
  switch (op) {
    case Op::kRead:
      return "read";
    case Op::kWrite:
      return "write";
    case Op::kAtomic:
      return "atomic";
    case Op::kFlush:
    case Op::kZero:
    case Op::kPrefetch:
      break;
  }
  return "request";
}

}  // namespace

// The buffers of all slots.
struct LoadWorker::Mapping {
  std::span<std::byte> bytes;
  ~Mapping() {
    if (!bytes.empty()) munmap(bytes.data(), bytes.size());
  }
};

absl::StatusOr<std::unique_ptr<LoadWorker>> LoadWorker::Create(transport::Channel* channel,
                                                               const LoadOptions& given) {
  LoadOptions options = given;
  if (options.op == LoadOp::kAtomic) options.size = kAtomicBytes;
  OXMEM_RETURN_IF_ERROR(CheckOptions(*channel, options));
  OXMEM_ASSIGN_OR_RETURN(ChannelWaiter waiter, ChannelWaiter::Create());
  std::unique_ptr<LoadWorker> worker(new LoadWorker(channel, options, std::move(waiter)));
  OXMEM_RETURN_IF_ERROR(worker->MakeBuffers());
  return worker;
}

LoadWorker::LoadWorker(transport::Channel* channel, const LoadOptions& options,
                       ChannelWaiter waiter)
    : channel_(channel),
      options_(options),
      waiter_(std::move(waiter)),
      blocks_(options.range / options.size),
      mapping_(std::make_unique<Mapping>()),
      random_(options.seed),
      ledger_(options.verify ? static_cast<std::size_t>(blocks_) : 0),
      slots_(options.depth),
      completions_(options.depth) {
  requests_.reserve(options.depth);
  free_slots_.reserve(options.depth);
  for (uint32_t i = options.depth; i > 0; --i) free_slots_.push_back(i - 1);
}

LoadWorker::~LoadWorker() = default;

absl::Status LoadWorker::MakeBuffers() {
  buffer_stride_ = (options_.size + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
  const auto bytes = CheckedMultiply(buffer_stride_, options_.depth);
  void* const memory = !bytes ? MAP_FAILED
                              : mmap(nullptr, *bytes, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", options_.depth,
                                                     " buffers of ", FormatSize(options_.size),
                                                     " (a smaller size or depth?)"));
  }
  mapping_->bytes = std::span(static_cast<std::byte*>(memory), *bytes);
  OXMEM_ASSIGN_OR_RETURN(registration_, channel_->Register(mapping_->bytes));
  for (uint32_t i = 0; i < options_.depth; ++i) {
    FillPattern({options_.seed, i, 0}, BufferOf(i));
  }
  return absl::OkStatus();
}

std::span<std::byte> LoadWorker::BufferOf(uint32_t slot_index) const {
  return mapping_->bytes.subspan(slot_index * buffer_stride_, options_.size);
}

BlockPattern LoadWorker::PatternOf(uint64_t block, uint32_t generation) const {
  return {options_.seed, block, generation};
}

void LoadWorker::Prepare(const std::atomic<LoadControl>& control) {
  if (options_.verify) Loop(Phase::kFill, control);
}

void LoadWorker::Run(const std::atomic<LoadControl>& control) { Loop(Phase::kLoad, control); }

void LoadWorker::Finish(const std::atomic<LoadControl>& control) {
  if (options_.verify) Loop(Phase::kCheck, control);
}

void LoadWorker::Loop(Phase phase, const std::atomic<LoadControl>& control) {
  phase_ = phase;
  started_ = 0;
  next_block_ = phase == Phase::kLoad ? options_.first_block % blocks_ : 0;
  stopping_ = failure_ && (failure_->is_mismatch || !options_.keep_going);
  bool aborted = false;
  while (true) {
    const LoadControl told = control.load(std::memory_order_relaxed);
    if (told == LoadControl::kAbort && !aborted) {
      channel_->Close();  // what is under way completes with kClosed
      aborted = true;
    }
    if (aborted || (told == LoadControl::kEndRun && phase == Phase::kLoad)) stopping_ = true;
    if (stopping_) {
      DropRequests();
    } else {
      MakeRequests();
      SubmitRequests();
    }
    if (in_flight_ == 0 && submitted_ == requests_.size() && (stopping_ || !MoreToStart())) return;
    const Instant until = options_.spin > kControlInterval ? Now() : Now() + kControlInterval;
    const std::size_t count = waiter_.Wait(*channel_, completions_, options_.spin, until, -1);
    const Instant now = Now();
    for (std::size_t i = 0; i < count; ++i) OnCompletion(now, completions_[i]);
  }
}

bool LoadWorker::MoreToStart() const {
  if (phase_ != Phase::kLoad) return next_block_ < blocks_;
  return options_.count == 0 || started_ < options_.count;
}

std::optional<uint64_t> LoadWorker::PickBlock() {
  if (phase_ != Phase::kLoad) {
    while (phase_ == Phase::kCheck && next_block_ < blocks_ && !ledger_.known(next_block_)) {
      ++next_block_;
    }
    if (next_block_ == blocks_) return std::nullopt;
    return next_block_++;
  }
  if (options_.pattern == AccessPattern::kSequential) {
    if (options_.verify && ledger_.busy(next_block_)) return std::nullopt;
    const uint64_t block = next_block_;
    next_block_ = next_block_ + 1 == blocks_ ? 0 : next_block_ + 1;
    return block;
  }
  for (int i = 0; i < kTriesForIdleBlock; ++i) {
    const uint64_t block = random_.Below(blocks_);
    if (!options_.verify || !ledger_.busy(block)) return block;
  }
  return std::nullopt;
}

Op LoadWorker::PickOp(uint64_t block) {
  switch (phase_) {
    case Phase::kFill:
      return Op::kWrite;
    case Phase::kCheck:
      return Op::kRead;
    case Phase::kLoad:
      break;
  }
  switch (options_.op) {
    case LoadOp::kRead:
      return Op::kRead;
    case LoadOp::kWrite:
      return Op::kWrite;
    case LoadOp::kAtomic:
      return Op::kAtomic;
    case LoadOp::kMixed:
      break;
  }
  // A block that a failed write left unknown is not worth reading.
  if (options_.verify && !ledger_.known(block)) return Op::kWrite;
  const double draw = static_cast<double>(random_.Next() >> 11) * 0x1p-53;
  return draw < options_.read_share ? Op::kRead : Op::kWrite;
}

void LoadWorker::MakeRequests() {
  if (submitted_ < requests_.size()) return;  // the channel is full
  requests_.clear();
  submitted_ = 0;
  while (!free_slots_.empty() && MoreToStart()) {
    const std::optional<uint64_t> block = PickBlock();
    if (!block) return;
    const uint32_t slot_index = free_slots_.back();
    free_slots_.pop_back();
    ++started_;
    requests_.push_back(MakeRequest(slot_index, *block, PickOp(*block)));
  }
}

Request LoadWorker::MakeRequest(uint32_t slot_index, uint64_t block, Op op) {
  slots_[slot_index].block = block;
  slots_[slot_index].op = op;
  Request request;
  request.op = op;
  request.offset = options_.offset + block * options_.size;
  request.length = options_.size;
  request.buffer = BufferOf(slot_index).data();
  request.cookie = slot_index;
  request.atomic_op = AtomicOp::kAdd;
  request.operand = 1;
  if (!options_.verify) return request;
  ledger_.Start(block);
  if (op == Op::kRead) return request;
  FillPattern(PatternOf(block, ledger_.next_generation(block)), BufferOf(slot_index));
  if (op == Op::kAtomic) {
    // A swap tells what it found, so that every word is checked by the next one to it.
    request.atomic_op = AtomicOp::kSwap;
    request.operand = LoadLittleEndian<uint64_t>(request.buffer);
  }
  return request;
}

void LoadWorker::SubmitRequests() {
  if (submitted_ == requests_.size()) return;
  const Instant now = Now();
  const std::size_t taken = channel_->Submit(std::span(requests_).subspan(submitted_));
  for (std::size_t i = submitted_; i < submitted_ + taken; ++i) {
    slots_[requests_[i].cookie].started = now;
  }
  submitted_ += taken;
  in_flight_ += taken;
}

void LoadWorker::DropRequests() {
  for (std::size_t i = submitted_; i < requests_.size(); ++i) {
    const auto slot_index = static_cast<uint32_t>(requests_[i].cookie);
    if (options_.verify) ledger_.EndRead(slots_[slot_index].block);
    free_slots_.push_back(slot_index);
  }
  requests_.clear();
  submitted_ = 0;
}

void LoadWorker::OnCompletion(Instant now, const Completion& completion) {
  const auto slot_index = static_cast<uint32_t>(completion.cookie);
  const Slot& slot = slots_[slot_index];
  --in_flight_;
  const bool succeeded = completion.code == Code::kOk;
  if (succeeded && phase_ == Phase::kLoad) {
    counters_.operations.Increment();
    counters_.bytes.Add(options_.size);
    counters_.latency.Record(now - slot.started);
  }
  if (!succeeded) OnFailure(slot, completion.code);
  if (options_.verify) {
    if (succeeded && ledger_.known(slot.block)) CheckContents(slot_index, completion);
    if (slot.op == Op::kRead) {
      ledger_.EndRead(slot.block);
    } else {
      ledger_.EndWrite(slot.block, succeeded);
    }
  }
  free_slots_.push_back(slot_index);
}

void LoadWorker::CheckContents(uint32_t slot_index, const Completion& completion) {
  const Slot& slot = slots_[slot_index];
  if (slot.op == Op::kWrite) return;
  std::span<const std::byte> found = BufferOf(slot_index);
  std::array<std::byte, kAtomicBytes> old_value;
  if (slot.op == Op::kAtomic) {
    StoreLittleEndian(old_value.data(), completion.old_value);
    found = old_value;
  }
  const uint32_t generation = ledger_.generation(slot.block);
  const auto at = FindMismatch(PatternOf(slot.block, generation), found);
  if (!at) return;
  counters_.mismatches.Increment();
  stopping_ = true;
  if (failure_) return;
  std::vector<std::byte> expected(options_.size);
  FillPattern(PatternOf(slot.block, generation), expected);
  const uint64_t offset = options_.offset + slot.block * options_.size + *at;
  failure_ = LoadFailure{
      .is_mismatch = true,
      .op = slot.op,
      .offset = offset,
      .what = absl::StrFormat(
          "wrong data at offset 0x%x of %s: 0x%02x where 0x%02x was written (block %d, write %d)",
          offset, channel_->name(), static_cast<unsigned>(found[*at]),
          static_cast<unsigned>(expected[*at]), slot.block, generation)};
}

void LoadWorker::OnFailure(const Slot& slot, Code code) {
  if (code == Code::kClosed && stopping_) return;  // our own doing
  counters_.failures.Increment();
  if (!options_.keep_going || phase_ != Phase::kLoad) stopping_ = true;
  if (failure_) return;
  const uint64_t offset = options_.offset + slot.block * options_.size;
  std::string what =
      absl::StrFormat("%s of %s at offset 0x%x of %s failed: %s", OpWord(slot.op),
                      FormatSize(options_.size), offset, channel_->name(), CodeName(code));
  if (const absl::Status health = channel_->health(); !health.ok()) {
    absl::StrAppend(&what, " (", std::string(health.message()), ")");
  }
  failure_ = LoadFailure{.op = slot.op, .code = code, .offset = offset, .what = std::move(what)};
}

}  // namespace oxmem::apps
