#include "fs/fuse/reactor.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
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
constexpr std::size_t kLargestBurst = 32;
constexpr Duration kHandOverPatience = Duration::Seconds(1);
constexpr uint64_t kWake = ~uint64_t{0};
constexpr uint64_t kRequests = kWake - 1;
constexpr uint64_t kTimer = kWake - 2;  // other epoll numbers are those of volumes

ssize_t WriteToKernel(int, iovec* pieces, int count, void* reactor) {
  return static_cast<Reactor*>(reactor)->WriteAnswer({pieces, static_cast<std::size_t>(count)});
}

// libfuse wants it, and never calls it: requests are read by the reactor.
ssize_t ReadFromKernel(int fd, void* buffer, std::size_t length, void*) {
  return read(fd, buffer, length);
}

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
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
      timer_(std::move(timer)) {}

Reactor::~Reactor() {
  if (session_ != nullptr) fuse_session_destroy(session_);
}

absl::Status Reactor::PrepareToWait() {
  // Volumes that never need a wake-up leave nothing to wait for but requests: then the reactor
  // waits in read itself and saves a system call for each.
  blocking_ = options_.spin == Duration() &&
              std::all_of(volumes_.begin(), volumes_.end(),
                          [](const auto& volume) { return volume->event_fd() < 0; });
  wake_fd_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_fd_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!wake_fd_.valid() || !epoll_fd_.valid()) return ErrnoStatus(errno, "epoll");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWake}};
  if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, wake_fd_.get(), &event) != 0) {
    return ErrnoStatus(errno, "epoll_ctl");
  }
  // Looked at by nobody: that it ends the wait is enough.
  event.data.u64 = kTimer;
  if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, timer_.fd(), &event) != 0) {
    return ErrnoStatus(errno, "epoll_ctl");
  }
  for (std::size_t i = 0; i < volumes_.size(); ++i) {
    if (volumes_[i]->event_fd() < 0) continue;
    event.data.u64 = i;
    if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, volumes_[i]->event_fd(), &event) != 0) {
      return ErrnoStatus(errno, absl::StrCat(volumes_[i]->name(), ": epoll_ctl"));
    }
  }
  return absl::OkStatus();
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
  const int flags = fcntl(fuse_fd, F_GETFL) & ~O_NONBLOCK;
  if (fcntl(fuse_fd, F_SETFL, flags | (blocking_ ? 0 : O_NONBLOCK)) != 0) {
    return ErrnoStatus(errno, "/dev/fuse");
  }
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

Reactor::Received Reactor::Receive() {
  RequestSlot* slot = slots_->Take();
  if (slot == nullptr) return Received::kNothing;
  const std::span<std::byte> buffer = RequestSlots::ReceiveBuffer(*slot);
  const ssize_t bytes = read(fuse_fd_, buffer.data(), buffer.size());
  if (bytes < 0) {
    slots_->Return(slot);
    switch (errno) {
      case ENOENT:  // taken back by its process before we got it: there may be another
        return Received::kRequest;
      case EAGAIN:
      case EINTR:
        return Received::kNothing;
      default:
        // ENODEV, or ECONNABORTED: the mount is gone.
        if (errno != ENODEV && errno != ECONNABORTED) {
          spdlog::error("reading /dev/fuse: {}", std::strerror(errno));
        }
        return Received::kUnmounted;
    }
  }
  Dispatch(*slot, static_cast<std::size_t>(bytes));
  return Received::kRequest;
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
    slots_->Return(&slot);
    OnInterrupt(interrupt.unique, true);
    return;
  }
  slot.unique = header.unique;
  slot.thread_id = header.pid;
  current_ = &slot;
  fuse_buf received{.size = bytes, .mem = buffer.data()};
  fuse_session_process_buf(session_, &received);
  // Answered already, unless a handler took the slot for an operation.
  if (current_ != nullptr && header.opcode != FUSE_INIT) slots_->Return(current_);
  current_ = nullptr;
}

bool Reactor::ReceiveSome() {
  bool received = false;
  for (std::size_t count = 0; count < burst_; ++count) {
    switch (Receive()) {
      case Received::kRequest:
        received = true;
        break;
      case Received::kNothing:
        requests_ready_ = false;
        burst_ = std::max<std::size_t>(count, 1);
        return received;
      case Received::kUnmounted:
        unmounted_ = true;
        return received;
    }
  }
  burst_ = std::min(burst_ * 2, kLargestBurst);
  return received;
}

bool Reactor::PollVolumes() {
  bool moved = false;
  for (auto& volume : volumes_) moved |= volume->Poll();
  return moved;
}

void Reactor::Run() {
  if (blocking_) RunBlocking();
  if (!blocking_) RunPolling();
  if (leave_.load(std::memory_order_relaxed) && !unmounted_) HandOver();
  FinishWaiting();
}

void Reactor::RunBlocking() {
  while (!unmounted_ && !stop_.load(std::memory_order_relaxed)) {
    if (Receive() == Received::kUnmounted) unmounted_ = true;
    while (!waiting_.empty() && PollVolumes()) {
    }
    if (!waiting_.empty()) {
      StopBlocking();
      return;
    }
  }
}

// Volumes that take their time without having an event of their own, as a delay does: the next
// request must not wait for this one.
void Reactor::StopBlocking() {
  blocking_ = false;
  const int flags = fcntl(fuse_fd_, F_GETFL);
  OXMEM_CHECK(fcntl(fuse_fd_, F_SETFL, flags | O_NONBLOCK) == 0);
}

void Reactor::RunPolling() {
  Instant last_move = Now();
  requests_ready_ = true;
  while (!unmounted_ && !stop_.load(std::memory_order_relaxed)) {
    bool moved = requests_ready_ && ReceiveSome();
    if (PollVolumes()) {
      moved = true;
      // Whoever got an answer may have another question.
      requests_ready_ = true;
    }
    if (!waiting_.empty()) ExpireOverdue(Now());
    if (moved) {
      last_move = options_.spin == Duration() ? last_move : Now();
      continue;
    }
    if (options_.spin != Duration() && Now() - last_move < options_.spin) {
      requests_ready_ = true;
      Pause();
      continue;
    }
    bool armed = true;
    for (auto& volume : volumes_) armed &= volume->Arm();
    if (armed) Sleep();
  }
}

Instant Reactor::NextDeadline() const {
  Instant next = waiting_.empty() ? Instant::Never() : waiting_.front()->deadline;
  for (const auto& volume : volumes_) next = std::min(next, volume->next_deadline());
  return next;
}

void Reactor::Sleep(Instant latest) {
  WatchRequests(!blocking_ && slots_->available() && !leave_.load(std::memory_order_relaxed));
  timer_.Set(Now(), std::min(NextDeadline(), latest));
  std::array<epoll_event, 16> events;
  stats_.sleeps.Increment();
  const int count = epoll_wait(epoll_fd_.get(), events.data(), static_cast<int>(events.size()), -1);
  for (int i = 0; i < count; ++i) {
    const uint64_t what = events[static_cast<std::size_t>(i)].data.u64;
    if (what == kRequests) {
      requests_ready_ = true;
    } else if (what == kWake) {
      uint64_t ignored = 0;
      (void)!read(wake_fd_.get(), &ignored, sizeof ignored);
      TakeForwardedInterrupts();
    }
  }
}

void Reactor::WatchRequests(bool on) {
  if (on == requests_watched_) return;
  requests_watched_ = on;
  // Exclusive: one request is to wake one of the reactors.
  epoll_event event{.events = EPOLLIN | EPOLLEXCLUSIVE, .data = {.u64 = kRequests}};
  OXMEM_CHECK(epoll_ctl(epoll_fd_.get(), on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, fuse_fd_, &event) ==
              0);
}

void Reactor::FinishWaiting() {
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
  while (!waiting_.empty() && Now() < latest) {
    if (PollVolumes()) continue;
    ExpireOverdue(Now());
    bool armed = !waiting_.empty();
    for (auto& volume : volumes_) armed &= volume->Arm();
    if (armed) Sleep(latest);
  }
  while (!waiting_.empty()) {
    RequestSlot& slot = *waiting_.front();
    waiting_.Remove(slot);
    fuse_reply_none(std::exchange(slot.request, nullptr));
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
  const uint64_t one = 1;
  (void)!write(wake_fd_.get(), &one, sizeof one);
}

}  // namespace oxmem::fs
