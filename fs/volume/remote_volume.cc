#include "fs/volume/remote_volume.h"

#include <algorithm>
#include <utility>

#include "spdlog/spdlog.h"
#include "transport/base/check.h"
#include "transport/base/size.h"

namespace oxmem::fs {

using transport::Code;
using transport::Completion;
using transport::Op;
using transport::Request;
using Step = UnalignedEnds::Step;

namespace {

constexpr std::size_t kMostParts = 4096;
constexpr uint64_t kZerosBytes = uint64_t{256} << 10;

// Zeros to write where the channel has no operation for it. Never touched, so the pages behind it
// are the kernel's one zero page until a transport registers them.
alignas(4096) std::byte zeros[kZerosBytes];

uint64_t RoundDown(uint64_t value, uint64_t unit) { return value - value % unit; }

VolumeInfo InfoOf(const transport::Limits& limits) {
  VolumeInfo info;
  info.size_bytes = limits.size_bytes;
  info.block_bytes = limits.alignment_bytes;
  info.read_only = limits.read_only;
  info.persistent = limits.persistent;
  info.needs_registration = limits.needs_registration;
  info.cheap_zero = limits.zero;
  info.local_memory = limits.local_memory;
  return info;
}

}  // namespace

RemoteVolume::RemoteVolume(std::unique_ptr<transport::Channel> channel)
    : channel_(std::move(channel)),
      info_(InfoOf(channel_->limits())),
      alignment_(channel_->limits().alignment_bytes),
      largest_part_(RoundDown(channel_->limits().largest_request_bytes, alignment_)),
      zero_part_(std::min(largest_part_, RoundDown(kZerosBytes, alignment_))),
      ends_(alignment_) {
  OXMEM_CHECK(alignment_ != 0 && largest_part_ != 0 && channel_->limits().depth != 0);
  OXMEM_CHECK(info_.size_bytes % alignment_ == 0 && zero_part_ != 0);
  const std::size_t count = std::min<std::size_t>(channel_->limits().depth, kMostParts);
  parts_.resize(count);
  free_parts_.reserve(count);
  for (std::size_t i = count; i > 0; --i) ReturnPart(i - 1);
  if (!info_.needs_registration) return;
  for (const std::span<std::byte> memory : {ends_.memory(), std::span<std::byte>(zeros)}) {
    if (memory.empty()) continue;
    auto handle = channel_->Register(memory);
    // Without registration everything works, at the price of a copy.
    if (!handle.ok()) spdlog::debug("{}: {}", name(), std::string(handle.status().message()));
    if (handle.ok()) registrations_.push_back(*std::move(handle));
  }
}

RemoteVolume::~RemoteVolume() { OXMEM_CHECK(in_flight_ == 0); }

Code RemoteVolume::Check(const IoOp& op) const {
  if (op.kind == IoKind::kFlush) return Code::kOk;
  if (!RangeFits(op.offset, op.length, info_.size_bytes)) return Code::kOutOfRange;
  if (op.is_write() && info_.read_only) return Code::kReadOnly;
  return Code::kOk;
}

bool RemoteVolume::NeedsEnds(const IoOp& op) const {
  return op.kind != IoKind::kFlush && (op.offset % alignment_ != 0 || op.length % alignment_ != 0);
}

bool RemoteVolume::Overlap(const IoOp& a, const IoOp& b) const {
  const uint64_t a_begin = RoundDown(a.offset, alignment_);
  const uint64_t b_begin = RoundDown(b.offset, alignment_);
  return a_begin < b.offset + b.length + (alignment_ - 1) &&
         b_begin < a.offset + a.length + (alignment_ - 1);
}

bool RemoteVolume::MustWait(const IoOp& op) const {
  const bool ends = NeedsEnds(op);
  if (ends && !ends_.available()) return true;
  if (op.kind == IoKind::kRead) return false;
  const bool flush = op.kind == IoKind::kFlush;
  // Behind those that wait already, or the order of writes would turn round.
  for (const IoOp* other = blocked_.front(); other != nullptr && other != &op;
       other = OpQueue::Next(*other)) {
    if (flush || other->kind == IoKind::kFlush || Overlap(op, *other)) return true;
  }
  if (exclusive_count_ == 0 && !ends) return false;
  for (const IoOp* other = active_.front(); other != nullptr; other = ActiveList::Next(*other)) {
    if (!other->is_write()) continue;
    if (flush && other->transfer.exclusive && !other->transfer.stopped) return true;
    if (!flush && (other->transfer.exclusive || ends) && Overlap(op, *other)) return true;
  }
  return false;
}

void RemoteVolume::Start(IoOp& op) {
  const Code code = Check(op);
  if (code != Code::kOk || (op.length == 0 && op.kind != IoKind::kFlush)) {
    op.Finish(code, 0);
    return;
  }
  ++in_flight_;
  if (MustWait(op)) {
    blocked_.PushBack(op);
  } else {
    Admit(op);
  }
}

void RemoteVolume::Admit(IoOp& op) {
  active_.PushBack(op);
  op.transfer.middle_offset = op.offset;
  op.transfer.middle_length = op.kind == IoKind::kFlush ? 0 : op.length;
  if (NeedsEnds(op)) {
    ends_.Open(op);
    if (op.is_write()) {
      op.transfer.exclusive = true;
      ++exclusive_count_;
    }
  }
  queue_.PushBack(op);
}

void RemoteVolume::AdmitBlocked() {
  for (IoOp* op = blocked_.front(); op != nullptr;) {
    IoOp* next = OpQueue::Next(*op);
    if (!MustWait(*op)) {
      blocked_.Remove(*op);
      Admit(*op);
    }
    op = next;
  }
}

void RemoteVolume::StagePart(IoOp& op, Role role, int end, Request request) {
  const uint32_t index = free_parts_.back();
  free_parts_.pop_back();
  parts_[index] = {.op = &op, .role = role, .end = static_cast<uint8_t>(end)};
  request.cookie = index;
  staged_[staged_count_++] = request;
  ++op.transfer.parts;
}

bool RemoteVolume::StageEnd(IoOp& op) {
  if (op.transfer.edges < 0) return false;
  auto& both = ends_.Of(op);
  for (int i = 0; i < 2; ++i) {
    UnalignedEnds::End& end = both[static_cast<std::size_t>(i)];
    if (end.step != Step::kRead && end.step != Step::kWrite) continue;
    const bool read = end.step == Step::kRead;
    end.step = read ? Step::kReading : Step::kWriting;
    StagePart(op, read ? Role::kEndRead : Role::kEndWrite, i,
              {.op = read ? Op::kRead : Op::kWrite,
               .offset = end.block_offset,
               .length = alignment_,
               .buffer = end.block});
    return true;
  }
  return false;
}

bool RemoteVolume::HasNext(const IoOp& op) const {
  const IoTransfer& transfer = op.transfer;
  if (op.kind == IoKind::kFlush) return !transfer.flush_issued;
  if (transfer.issued < transfer.middle_length) return true;
  if (transfer.edges < 0) return false;
  const auto& [head, tail] = ends_.Of(op);
  return head.step == Step::kRead || head.step == Step::kWrite || tail.step == Step::kRead ||
         tail.step == Step::kWrite;
}

void RemoteVolume::StageMiddle(IoOp& op) {
  IoTransfer& transfer = op.transfer;
  if (op.kind == IoKind::kFlush) {
    transfer.flush_issued = true;
    StagePart(op, Role::kMiddle, 0, {.op = Op::kFlush});
    return;
  }
  const uint64_t left = transfer.middle_length - transfer.issued;
  Request request{.offset = transfer.middle_offset + transfer.issued};
  if (op.kind == IoKind::kZero) {
    request.op = info_.cheap_zero ? Op::kZero : Op::kWrite;
    request.length = info_.cheap_zero ? left : std::min(left, zero_part_);
    request.buffer = info_.cheap_zero ? nullptr : zeros;
  } else {
    request.op = op.kind == IoKind::kRead ? Op::kRead : Op::kWrite;
    request.length = std::min(left, largest_part_);
    request.buffer = op.buffer + (request.offset - op.offset);
  }
  transfer.issued += request.length;
  StagePart(op, Role::kMiddle, 0, request);
}

bool RemoteVolume::Issue() {
  bool moved = false;
  while (true) {
    while (staged_count_ < staged_.size() && !free_parts_.empty() && !queue_.empty()) {
      IoOp& op = *queue_.front();
      if (!StageEnd(op)) StageMiddle(op);
      // Taken out at once: an operation in the queue is not finished.
      if (!HasNext(op)) queue_.Remove(op);
    }
    if (staged_count_ == 0) return moved;
    const std::size_t taken =
        channel_->Submit(std::span<const Request>(staged_.data(), staged_count_));
    moved |= taken != 0;
    std::move(staged_.begin() + static_cast<std::ptrdiff_t>(taken),
              staged_.begin() + static_cast<std::ptrdiff_t>(staged_count_), staged_.begin());
    staged_count_ -= taken;
    if (staged_count_ != 0) return moved;
  }
}

bool RemoteVolume::Poll() {
  bool moved = Issue();
  std::array<Completion, 64> completions;
  std::size_t count = 0;
  do {
    count = channel_->Poll(completions);
    moved |= count != 0;
    for (std::size_t i = 0; i < count; ++i) OnCompletion(completions[i]);
    if (count != 0) Issue();
  } while (count == completions.size());
  return moved;
}

bool RemoteVolume::Arm() {
  // What could not be submitted is submitted after a completion, which wakes the owner; what was
  // started since the last Poll was not tried yet.
  if (staged_count_ == 0 && !queue_.empty() && !free_parts_.empty()) return false;
  return channel_->Arm();
}

void RemoteVolume::OnCompletion(const Completion& completion) {
  OXMEM_CHECK(completion.cookie < parts_.size());
  Part& part = parts_[completion.cookie];
  OXMEM_CHECK(part.op != nullptr);
  IoOp& op = *std::exchange(part.op, nullptr);
  const Role role = part.role;
  const std::size_t end = part.end;
  ReturnPart(completion.cookie);
  --op.transfer.parts;
  if (completion.code != Code::kOk) {
    Stop(op, completion.code, completion.provider_code);
  } else if (role == Role::kEndRead && !op.transfer.stopped) {
    UnalignedEnds::AfterRead(op, ends_.Of(op)[end]);
    if (op.is_write() && !OpQueue::Linked(op)) queue_.PushFront(op);
  }
  FinishIfDone(op);
}

void RemoteVolume::Stop(IoOp& op, Code code, int32_t provider_code) {
  if (op.transfer.stopped) return;
  op.transfer.stopped = true;
  op.code = code;
  op.provider_code = provider_code;
  if (OpQueue::Linked(op)) queue_.Remove(op);
  DropStaged(op);
}

void RemoteVolume::DropStaged(const IoOp& op) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < staged_count_; ++i) {
    Part& part = parts_[staged_[i].cookie];
    if (part.op == &op) {
      --part.op->transfer.parts;
      part.op = nullptr;
      ReturnPart(staged_[i].cookie);
    } else {
      staged_[kept++] = staged_[i];
    }
  }
  staged_count_ = kept;
}

void RemoteVolume::Cancel(IoOp& op) {
  if (!ActiveList::Linked(op)) {
    blocked_.Remove(op);
    op.code = Code::kTimedOut;
    --in_flight_;
    // Others may have waited behind it only.
    AdmitBlocked();
    op.Finish(Code::kTimedOut, 0);
    return;
  }
  Stop(op, Code::kTimedOut, 0);
  if (op.is_write() && !op.transfer.exclusive) {
    op.transfer.exclusive = true;
    ++exclusive_count_;
  }
  FinishIfDone(op);
}

void RemoteVolume::FinishIfDone(IoOp& op) {
  if (op.transfer.parts != 0 || OpQueue::Linked(op)) return;
  active_.Remove(op);
  if (op.transfer.edges >= 0) ends_.Close(op);
  if (op.transfer.exclusive) --exclusive_count_;
  --in_flight_;
  if (!blocked_.empty()) AdmitBlocked();
  op.Finish(op.code, op.provider_code);
}

void RemoteVolume::Close() {
  channel_->Close();
  while (!blocked_.empty()) {
    IoOp& op = *blocked_.front();
    blocked_.Remove(op);
    --in_flight_;
    op.Finish(Code::kClosed, 0);
  }
  while (!queue_.empty()) {
    IoOp& op = *queue_.front();
    Stop(op, Code::kClosed, 0);
    FinishIfDone(op);
  }
}

}  // namespace oxmem::fs
