// The half of the reactor that a request's operation goes through.
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "fs/fuse/reactor.h"
#include "spdlog/spdlog.h"
#include "transport/base/check.h"

namespace oxmem::fs {
namespace {

const char* KindName(IoKind kind) {
  switch (kind) {
    case IoKind::kRead:
      return "read";
    case IoKind::kWrite:
      return "write";
    case IoKind::kZero:
      return "zero";
    case IoKind::kFlush:
      return "flush";
  }
  return "";
}

// Whether a thread is being killed, as opposed to getting a signal that it handles: only then may a
// read of a file end early.
bool IsBeingKilled(uint32_t thread_id) {
  if (thread_id == 0) return false;
  std::ifstream status(absl::StrCat("/proc/", thread_id, "/status"));
  for (std::string line; std::getline(status, line);) {
    if (!absl::StartsWith(line, "SigPnd:") && !absl::StartsWith(line, "ShdPnd:")) continue;
    uint64_t pending = 0;
    if (!absl::SimpleHexAtoi(line.substr(7), &pending)) continue;
    if ((pending & (uint64_t{1} << (SIGKILL - 1))) != 0) return true;
  }
  return false;
}

}  // namespace

void Reactor::StartRead(fuse_req_t request, std::size_t file, uint64_t offset, std::size_t length) {
  Start(request, file, IoKind::kRead, offset, length, current_->io_memory);
}

void Reactor::StartWrite(fuse_req_t request, std::size_t file, uint64_t offset, const char* bytes,
                         std::size_t length, bool synced) {
  // libfuse hands out a pointer into the slot that the request was received into; volumes do not
  // change the buffer of a write.
  auto* buffer = reinterpret_cast<std::byte*>(const_cast<char*>(bytes));
  Start(request, file, IoKind::kWrite, offset, length, buffer,
        synced ? Purpose::kSyncedWrite : Purpose::kItself);
}

void Reactor::StartZero(fuse_req_t request, std::size_t file, uint64_t offset, uint64_t length) {
  Start(request, file, IoKind::kZero, offset, length, nullptr);
}

void Reactor::StartFlush(fuse_req_t request, std::size_t file) {
  Start(request, file, IoKind::kFlush, 0, 0, nullptr);
}

void Reactor::Start(fuse_req_t request, std::size_t file, IoKind kind, uint64_t offset,
                    uint64_t length, std::byte* buffer, Purpose purpose) {
  RequestSlot& slot = *std::exchange(current_, nullptr);
  slot.request = request;
  slot.file = file;
  slot.purpose = purpose;
  slot.Prepare(kind, offset, length, buffer, this);
  slot.issued_at_since = 0;
  slot.since = received_at_;
  waiting_.PushBack(slot);
  last_was_long_ = length >= kLongCopyBytes;
  if (last_was_long_ && leads_) {
    BeginAlong();
    PassLead();
  }
  volumes_[file]->Start(slot);
}

void Reactor::OnIoDone(IoOp& op) {
  auto& slot = static_cast<RequestSlot&>(op);
  if (slot.request != nullptr) {
    waiting_.Remove(slot);
    if (slot.purpose == Purpose::kSyncedWrite && slot.kind == IoKind::kWrite &&
        slot.code == transport::Code::kOk) {
      Sync(slot);
      return;
    }
    Answer(slot);
  }
  Return(&slot);
}

void Reactor::Sync(RequestSlot& slot) {
  slot.written = slot.length;
  slot.Prepare(IoKind::kFlush, 0, 0, nullptr, this);
  slot.issued_at_since = 0;
  slot.since = Now();
  waiting_.PushBack(slot);
  volumes_[slot.file]->Start(slot);
}

void Reactor::AnswerFlush(fuse_req_t request, const RequestSlot& slot) {
  switch (slot.purpose) {
    case Purpose::kItself:
      fuse_reply_err(request, 0);
      return;
    case Purpose::kOpen:
      // The kernel would not take the memory of another file for the one that it opens.
      if (files_->losses(slot.file) != slot.losses) {
        fuse_reply_err(request, ESTALE);
      } else {
        AnswerOpen(request, slot.file);
      }
      return;
    case Purpose::kSyncedWrite:
      files_->Touch(slot.file);
      fuse_reply_write(request, slot.written);
      return;
  }
}

void Reactor::Answer(RequestSlot& slot) {
  fuse_req_t request = std::exchange(slot.request, nullptr);
  if (slot.code != transport::Code::kOk) {
    LogFailure(slot, transport::CodeName(slot.code));
    fuse_reply_err(request, transport::ErrnoOfCode(slot.code));
    return;
  }
  switch (slot.kind) {
    case IoKind::kRead:
      fuse_reply_buf(request, reinterpret_cast<const char*>(slot.data), slot.length);
      return;
    case IoKind::kWrite:
      files_->Touch(slot.file);
      fuse_reply_write(request, slot.length);
      return;
    case IoKind::kZero:
      files_->Touch(slot.file);
      fuse_reply_err(request, 0);
      return;
    case IoKind::kFlush:
      AnswerFlush(request, slot);
      return;
  }
}

Instant Reactor::DeadlineOf(Instant since) const {
  const auto timeout = Duration::Nanoseconds(timeout_ns_.load(std::memory_order_relaxed));
  return timeout == Duration() ? Instant::Never() : since + timeout;
}

void Reactor::SetTimeout(Duration timeout) {
  timeout_ns_.store(timeout.nanoseconds(), std::memory_order_relaxed);
  Wake();  // it may sleep until the deadline from before
}

void Reactor::ExpireOverdue(Instant now) {
  while (!waiting_.empty() && DeadlineOf(waiting_.front()->since) <= now) {
    RequestSlot& slot = *waiting_.front();
    if (slot.kind == IoKind::kZero && slot.transfer.issued != slot.issued_at_since) {
      // Long, but it goes on: zeroing a terabyte may take its time.
      slot.issued_at_since = slot.transfer.issued;
      slot.since = now;
      waiting_.Remove(slot);
      waiting_.PushBack(slot);
      continue;
    }
    stats_.timeouts.Increment();
    LogFailure(slot, "no answer in time");
    GiveUp(slot, EIO);
  }
}

void Reactor::GiveUp(RequestSlot& slot, int error) {
  waiting_.Remove(slot);
  fuse_reply_err(std::exchange(slot.request, nullptr), error);
  EndOrder(slot);
  // The slot comes back when the channel lets go of its memory.
  volumes_[slot.file]->Cancel(slot);
}

void Reactor::LogFailure(const RequestSlot& slot, const char* why) {
  uint64_t suppressed = 0;
  if (!log_limiter_.Allow(Now(), &suppressed)) return;
  const std::string more =
      suppressed == 0 ? "" : absl::StrCat(" (and ", suppressed, " more since the last line)");
  spdlog::warn("{}/{}: {} of {} bytes at {}: {} from {}{}", options_.directory,
               files_->file(slot.file).name,
               slot.purpose == Purpose::kOpen ? "open" : KindName(slot.kind), slot.length,
               slot.offset, why, files_->file(slot.file).provider, more);
}

void Reactor::OnInterrupt(uint64_t unique, bool from_kernel) {
  if (from_kernel) stats_.interrupts.Increment();
  for (RequestSlot* slot = waiting_.front(); slot != nullptr; slot = WaitingList::Next(*slot)) {
    if (slot->unique != unique) continue;
    if (!IsBeingKilled(slot->thread_id)) return;
    stats_.abandoned.Increment();
    GiveUp(*slot, EINTR);
    return;
  }
  if (!from_kernel) return;
  for (Reactor* peer : peers_) {
    if (peer->waits_in_read()) continue;  // has nothing under way
    {
      MutexLock lock(&peer->mutex_);
      peer->forwarded_.push_back(unique);
    }
    peer->Wake();
  }
}

void Reactor::TakeForwardedInterrupts() {
  std::vector<uint64_t> forwarded;
  {
    MutexLock lock(&mutex_);
    forwarded.swap(forwarded_);
  }
  for (const uint64_t unique : forwarded) OnInterrupt(unique, false);
}

}  // namespace oxmem::fs
