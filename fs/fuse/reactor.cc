#include "fs/fuse/reactor.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fs/fuse/kernel_abi.h"
#include "fs/fuse/operations.h"
#include "spdlog/spdlog.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::fs {
namespace {

// Registered memory is pinned, all of it; other memory is only taken when it is used.
constexpr std::size_t kSlots = 64;
constexpr std::size_t kRegisteredSlots = 32;
// A look for another request is in vain where there never is one.
constexpr std::size_t kMostAlone = 16;
constexpr Duration kHandOverPatience = Duration::Seconds(1);

ssize_t WriteToKernel(int, iovec* pieces, int count, void* reactor) {
  return static_cast<Reactor*>(reactor)->WriteAnswer({pieces, static_cast<std::size_t>(count)});
}

// libfuse wants it, and never calls it: requests are read by the reactor.
ssize_t ReadFromKernel(int fd, void* buffer, std::size_t length, void*) {
  return read(fd, buffer, length);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Reactor>> Reactor::Create(
    const MountOptions& options, FileTable* files, std::vector<std::unique_ptr<Volume>> volumes) {
  const bool registered = std::any_of(volumes.begin(), volumes.end(), [](const auto& volume) {
    return volume->info().needs_registration;
  });
  OXMEM_ASSIGN_OR_RETURN(auto slots, RequestSlots::Create(registered ? kRegisteredSlots : kSlots));
  OXMEM_ASSIGN_OR_RETURN(LazyTimer timer, LazyTimer::Create());
  std::unique_ptr<Reactor> reactor(
      new Reactor(options, files, std::move(volumes), std::move(slots), std::move(timer)));
  for (auto& volume : reactor->volumes_) {
    if (!volume->info().needs_registration) continue;
    OXMEM_ASSIGN_OR_RETURN(auto handle, volume->Register(reactor->slots_->memory()));
    reactor->registrations_.push_back(std::move(handle));
  }
  OXMEM_RETURN_IF_ERROR(reactor->PrepareToWait());
  return reactor;
}

Reactor::Reactor(const MountOptions& options, FileTable* files,
                 std::vector<std::unique_ptr<Volume>> volumes, std::unique_ptr<RequestSlots> slots,
                 LazyTimer timer)
    : options_(options),
      files_(files),
      volumes_(std::move(volumes)),
      slots_(std::move(slots)),
      timer_(std::move(timer)),
      spin_(options.spin),
      timeout_ns_(options.timeout.nanoseconds()) {}

Reactor::~Reactor() {
  if (session_ != nullptr) fuse_session_destroy(session_);
}

absl::Status Reactor::MakeSession(const std::vector<std::string>& arguments) {
  fuse_args parsed = FUSE_ARGS_INIT(0, nullptr);
  fuse_opt_add_arg(&parsed, "oxmem");
  for (const std::string& argument : arguments) fuse_opt_add_arg(&parsed, argument.c_str());
  session_ = fuse_session_new(&parsed, &FuseOperations(), sizeof(fuse_lowlevel_ops), this);
  fuse_opt_free_args(&parsed);
  if (session_ == nullptr) return absl::InternalError("libfuse took none of our mount options");
  return absl::OkStatus();
}

absl::Status Reactor::Attach(int fuse_fd) {
  fuse_custom_io io{};
  io.writev = WriteToKernel;
  io.read = ReadFromKernel;
  const int error = fuse_session_custom_io(session_, &io, fuse_fd);
  if (error != 0) return ErrnoStatus(-error, "libfuse: custom I/O");
  fuse_fd_ = fuse_fd;
  // Whoever had the descriptor before us may have set it otherwise.
  read_waits_ = !blocking_;
  LetReadWait(blocking_);
  if (!blocking_) WatchRequests(true);
  return absl::OkStatus();
}

absl::Status Reactor::Initialize(std::span<const std::byte> request, const InitReply& reply,
                                 bool answer_kernel) {
  RequestSlot* slot = slots_->Take();
  const std::span<std::byte> buffer = RequestSlots::ReceiveBuffer(*slot);
  OXMEM_CHECK(request.size() <= buffer.size());
  std::memcpy(buffer.data(), request.data(), request.size());
  init_reply_ = &reply;
  answer_init_ = answer_kernel;
  Dispatch(*slot, request.size());
  slots_->Return(slot);
  const bool answered = init_reply_ == nullptr;
  init_reply_ = nullptr;
  if (!answered) return absl::InternalError("libfuse did not accept the kernel's FUSE_INIT");
  return absl::OkStatus();
}

ssize_t Reactor::WriteAnswer(std::span<iovec> pieces) {
  if (init_reply_ != nullptr && pieces.size() == 2) {
    const std::span<std::byte> answer(static_cast<std::byte*>(pieces[1].iov_base),
                                      pieces[1].iov_len);
    if (init_reply_->Extend(answer)) {
      init_reply_ = nullptr;
      init_answer_.assign(answer.begin(), answer.end());
    }
    if (!answer_init_) return static_cast<ssize_t>(pieces[0].iov_len + pieces[1].iov_len);
  }
  return writev(fuse_fd_, pieces.data(), static_cast<int>(pieces.size()));
}

Reactor::Received Reactor::Read(RequestSlot** slot, std::size_t* bytes) {
  *slot = slots_->Take();
  if (*slot == nullptr) return Received::kNothing;
  const std::span<std::byte> buffer = RequestSlots::ReceiveBuffer(**slot);
  takes_.fetch_add(1);
  const ssize_t got = read(fuse_fd_, buffer.data(), buffer.size());
  const int error = errno;
  if (got >= 0) order_->Note(**slot, buffer.first(static_cast<std::size_t>(got)));
  takes_.fetch_add(1);
  if (got >= 0) {
    *bytes = static_cast<std::size_t>(got);
    return Received::kRequest;
  }
  slots_->Return(std::exchange(*slot, nullptr));
  switch (error) {
    case ENOENT:  // taken back by its process before we got it: there may be another
      return Received::kRequest;
    case EAGAIN:
    case EINTR:
      return Received::kNothing;
    default:
      // ENODEV, or ECONNABORTED: the mount is gone.
      if (error != ENODEV && error != ECONNABORTED) {
        spdlog::error("reading /dev/fuse: {}", std::strerror(error));
      }
      return Received::kUnmounted;
  }
}

Reactor::Received Reactor::Receive() {
  RequestSlot* slot = nullptr;
  std::size_t bytes = 0;
  const Received received = Read(&slot, &bytes);
  if (received != Received::kRequest) return received;
  received_at_ = Now();
  if (slot != nullptr) Dispatch(*slot, bytes);
  return Received::kRequest;
}

Reactor::Received Reactor::ReceiveTogether() {
  std::array<RequestSlot*, kTogether> slots;
  std::array<std::size_t, kTogether> bytes;
  std::size_t count = 0;
  Received last = Received::kRequest;
  while (count < together_) {
    last = Read(&slots[count], &bytes[count]);
    if (last != Received::kRequest) break;
    if (slots[count] == nullptr) continue;
    ++count;
    if (read_waits_ || IsLong(*slots[count - 1], bytes[count - 1])) break;
  }
  if (count == 0) return last;
  if (count < together_) {
    together_ = count;
    alone_ = 0;
  } else if (count > 1 || ++alone_ == kMostAlone) {
    together_ = std::min(together_ * 2, kTogether);
  }
  received_at_ = Now();
  for (std::size_t i = 0; i < count; ++i) Dispatch(*slots[i], bytes[i]);
  return last == Received::kUnmounted ? last : Received::kRequest;
}

void Reactor::ReceiveResent() {
  LetReadWait(false);
  std::vector<RequestSlot*> slots;
  for (;;) {
    RequestSlot* slot = nullptr;
    std::size_t bytes = 0;
    const Received received = Read(&slot, &bytes);
    unmounted_ = received == Received::kUnmounted;
    if (received != Received::kRequest) break;
    if (slot == nullptr) continue;
    slot->received = bytes;
    slots.push_back(slot);
  }
  received_at_ = Now();
  const auto later = std::stable_partition(
      slots.begin(), slots.end(), [](const RequestSlot* slot) { return !slot->fills_cache; });
  std::for_each(slots.begin(), later, [this](auto* slot) { Dispatch(*slot, slot->received); });
  std::for_each(later, slots.end(), [this](auto* slot) { Dispatch(*slot, slot->received); });
  if (blocking_ && LeavesSomething()) StopWaitingInRead();
}

bool Reactor::IsLong(const RequestSlot& slot, std::size_t bytes) {
  if (bytes >= kLongCopyBytes) return true;  // a write
  const std::span<const std::byte> buffer = RequestSlots::ReceiveBuffer(slot);
  fuse_in_header header;
  fuse_read_in wanted;
  std::memcpy(&header, buffer.data(), sizeof header);
  // Zeroing has no length that would have to come with it.
  if (header.opcode == FUSE_FALLOCATE) return true;
  if (bytes < sizeof header + sizeof wanted) return false;
  std::memcpy(&wanted, buffer.data() + sizeof header, sizeof wanted);
  return header.opcode == FUSE_READ && wanted.size >= kLongCopyBytes;
}

void Reactor::Dispatch(RequestSlot& slot, std::size_t bytes) {
  const std::span<std::byte> buffer = RequestSlots::ReceiveBuffer(slot);
  fuse_in_header header;
  OXMEM_CHECK(bytes >= sizeof header);
  std::memcpy(&header, buffer.data(), sizeof header);
  stats_.requests.Increment();
  if (header.opcode == FUSE_INTERRUPT) {
    fuse_interrupt_in interrupt;
    OXMEM_CHECK(bytes >= sizeof header + sizeof interrupt);
    std::memcpy(&interrupt, buffer.data() + sizeof header, sizeof interrupt);
    Return(&slot);
    OnInterrupt(interrupt.unique, true);
    return;
  }
  slot.received = bytes;
  if (WaitsForWrites(slot)) return;
  slot.unique = header.unique;
  slot.thread_id = header.pid;
  current_ = &slot;
  fuse_buf received{.size = bytes, .mem = buffer.data()};
  fuse_session_process_buf(session_, &received);
  // Answered already, unless a handler took the slot for an operation.
  if (current_ != nullptr && header.opcode != FUSE_INIT) Return(current_);
  current_ = nullptr;
}

bool Reactor::WaitsForWrites(RequestSlot& slot) {
  if (!slot.fills_cache) return false;
  if (slot.owner == nullptr) WaitForTakers();
  slot.owner = this;
  // Whoever waits in read starts no operation that does not end at once, but for the first.
  if (blocking_ && waiting_.empty()) {
    while (order_->MustWait(slot)) sched_yield();
    return false;
  }
  if (!order_->Delay(slot)) return false;
  delayed_.push_back(&slot);
  return true;
}

// None of them waits in read meanwhile: this one leads or reads along, or all poll.
void Reactor::WaitForTakers() {
  for (const Reactor* peer : peers_) {
    const uint32_t seen = peer->takes_.load();
    while (seen % 2 != 0 && peer->takes_.load() == seen) sched_yield();
  }
}

void Reactor::Resume(RequestSlot& slot) {
  {
    MutexLock lock(&mutex_);
    resumed_.push_back(&slot);
  }
  Wake();
}

bool Reactor::DispatchResumed() {
  if (delayed_.empty()) return false;
  std::vector<RequestSlot*> resumed;
  {
    MutexLock lock(&mutex_);
    resumed.swap(resumed_);
  }
  for (RequestSlot* slot : resumed) {
    std::erase(delayed_, slot);
    Dispatch(*slot, slot->received);
  }
  return !resumed.empty();
}

void Reactor::ForgetDelayed() {
  for (RequestSlot* slot : delayed_) {
    order_->Forget(*slot);
    slots_->Return(slot);
  }
  delayed_.clear();
}

void Reactor::EndOrder(RequestSlot& slot) {
  std::vector<RequestSlot*> ready;
  if (slot.is_ordered_write) order_->End(slot, &ready);
  for (RequestSlot* read : ready) read->owner->Resume(*read);
}

void Reactor::Return(RequestSlot* slot) {
  EndOrder(*slot);
  slots_->Return(slot);
}

void Reactor::FinishWaiting() {
  ForgetDelayed();
  while (!waiting_.empty()) GiveUp(*waiting_.front(), EIO);
  for (auto& volume : volumes_) volume->Close();
  // A closed channel ends everything by itself.
  for (auto& volume : volumes_) {
    while (volume->in_flight() != 0) {
      if (!volume->Poll()) usleep(100);
    }
  }
}

void Reactor::HandOver() {
  const bool answer_all = answer_all_.load(std::memory_order_relaxed);
  const Instant latest = answer_all ? Instant::Never() : Now() + kHandOverPatience;
  while ((!waiting_.empty() || !delayed_.empty()) && Now() < latest) {
    if (PollVolumes() || DispatchResumed()) continue;
    ExpireOverdue(Now());
    bool armed = !waiting_.empty() || !delayed_.empty();
    for (auto& volume : volumes_) armed &= volume->Arm();
    if (armed) Sleep(latest);
  }
  while (!waiting_.empty()) {
    RequestSlot& slot = *waiting_.front();
    waiting_.Remove(slot);
    fuse_reply_none(std::exchange(slot.request, nullptr));
    EndOrder(slot);
    volumes_[slot.file]->Cancel(slot);
  }
}

void Reactor::Leave(bool answer_all) {
  answer_all_.store(answer_all, std::memory_order_relaxed);
  leave_.store(true, std::memory_order_relaxed);
  Stop();
}

void Reactor::Stop() {
  stop_.store(true, std::memory_order_relaxed);
  Wake();
}

void Reactor::Wake() {
  const uint64_t one = 1;
  (void)!write(wake_fd_.get(), &one, sizeof one);
}

}  // namespace oxmem::fs
