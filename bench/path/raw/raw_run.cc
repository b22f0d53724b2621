#include "bench/path/raw/raw_run.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <functional>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "oxmem/link/interface.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace oxmem::bench {
namespace {

constexpr Duration kPatience = Duration::Seconds(2);

// What the two processes share.
struct Board {
  std::atomic<bool> ready{false};
  std::atomic<uint64_t> frames{0};
  std::atomic<uint64_t> bytes{0};
};

class SharedBoard {
 public:
  SharedBoard()
      : at_(mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                 0)) {
    if (at_ != MAP_FAILED) new (at_) Board;
  }
  ~SharedBoard() {
    if (at_ != MAP_FAILED) munmap(at_, sizeof(Board));
  }
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;
  Board* get() const { return at_ == MAP_FAILED ? nullptr : static_cast<Board*>(at_); }

 private:
  void* const at_;
};

absl::Status Pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("pinning to processor ", cpu));
}

absl::Status Enter(const RawEnd& end) {
  OXMEM_RETURN_IF_ERROR(Pin(end.cpu));
  if (end.namespace_path.empty()) return absl::OkStatus();
  const UniqueFd fd(open(end.namespace_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || setns(fd.get(), CLONE_NEWNET) != 0) {
    return ErrnoStatus(errno, absl::StrCat("entering ", end.namespace_path));
  }
  return absl::OkStatus();
}

absl::StatusOr<link::InterfaceInfo> Look(const RawEnd& end) {
  const UniqueFd any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  OXMEM_ASSIGN_OR_RETURN(link::InterfaceInfo info, link::FindInterface(any.get(), end.interface));
  OXMEM_RETURN_IF_ERROR(link::CheckUsable(info));
  return info;
}

// The far process; dies with this object.
class FarProcess {
 public:
  static absl::StatusOr<FarProcess> Start(const std::function<absl::Status()>& body) {
    const pid_t pid = fork();
    if (pid < 0) return ErrnoStatus(errno, "fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const absl::Status status = body();
      dprintf(STDERR_FILENO, "far end: %s\n", std::string(status.message()).c_str());
      _exit(1);
    }
    return FarProcess(pid);
  }
  FarProcess(FarProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  FarProcess& operator=(FarProcess&&) = delete;
  ~FarProcess() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

 private:
  explicit FarProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

struct Pair {
  RawOptions near;
  RawOptions far;
};

// Both ends' addresses and interfaces. Leaves this process in the near namespace.
absl::StatusOr<Pair> MeetBoth(const RawPlan& plan) {
  OXMEM_RETURN_IF_ERROR(Enter(plan.far));
  OXMEM_ASSIGN_OR_RETURN(const link::InterfaceInfo far, Look(plan.far));
  OXMEM_RETURN_IF_ERROR(Enter(plan.near));
  OXMEM_ASSIGN_OR_RETURN(const link::InterfaceInfo near, Look(plan.near));
  Pair pair;
  pair.near = {.interface_index = near.index,
               .own = near.mac,
               .peer = far.mac,
               .mtu = near.mtu,
               .ring_bytes = plan.ring_bytes,
               .touch = plan.touch};
  pair.far = pair.near;
  pair.far.interface_index = far.index;
  std::swap(pair.far.own, pair.far.peer);
  const std::size_t longest = std::max(plan.request_bytes, plan.response_bytes);
  if (longest > near.mtu + 14 || longest > far.mtu + 14 || plan.request_bytes < 60 ||
      plan.response_bytes < 60) {
    return absl::InvalidArgumentError(
        absl::StrCat("frames have 60 bytes to the MTU and 14, which is ", near.mtu + 14));
  }
  return pair;
}

void WaitFor(int fd, WaitWay wait) {
  if (wait == WaitWay::kSpin) return;
  pollfd one = {fd, POLLIN, 0};
  poll(&one, 1, static_cast<int>(kPatience.nanoseconds() / 1000000));
}

// Spins or yields, so that a far end on the same processor gets on.
void Relax(const RawPlan& plan) {
  if (plan.near.cpu == plan.far.cpu) {
    sched_yield();
  } else {
    __builtin_ia32_pause();
  }
}

absl::Status AwaitReady(const Board& board, const RawPlan& plan) {
  const Instant until = Now() + kPatience;
  while (!board.ready.load(std::memory_order_acquire)) {
    if (Now() > until) return absl::DeadlineExceededError("the far end did not start");
    sched_yield();
  }
  (void)plan;
  return absl::OkStatus();
}

// One frame with the plainest calls. False when nothing came in time.
class PlainEnd {
 public:
  PlainEnd(UniqueFd fd, WaitWay wait, const RawOptions& options)
      : fd_(std::move(fd)), wait_(wait), in_(options.mtu + 14), out_(options.mtu + 14) {
    std::ranges::copy(RawHeader(options), out_.begin());
    const timeval patience = {2, 0};
    (void)setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }

  static absl::StatusOr<PlainEnd> Open(WaitWay wait, const RawOptions& options) {
    OXMEM_ASSIGN_OR_RETURN(const int fd, OpenPlainSocket(options));
    return PlainEnd(UniqueFd(fd), wait, options);
  }

  bool Send(std::size_t bytes) { return send(fd_.get(), out_.data(), bytes, 0) > 0; }

  bool Receive() {
    if (wait_ == WaitWay::kBlock) return recv(fd_.get(), in_.data(), in_.size(), 0) > 0;
    if (wait_ == WaitWay::kPoll) {
      WaitFor(fd_.get(), wait_);
      return recv(fd_.get(), in_.data(), in_.size(), MSG_DONTWAIT) > 0;
    }
    // Looking at the clock costs a tenth of the call beside it.
    for (const Instant until = Now() + kPatience; Now() < until;) {
      for (int i = 0; i < 64; ++i) {
        if (recv(fd_.get(), in_.data(), in_.size(), MSG_DONTWAIT) > 0) return true;
      }
    }
    return false;
  }

 private:
  UniqueFd fd_;
  WaitWay wait_;
  std::vector<std::byte> in_;
  std::vector<std::byte> out_;
};

absl::Status PlainEcho(const RawPlan& plan, const RawOptions& options, Board& board) {
  OXMEM_RETURN_IF_ERROR(Enter(plan.far));
  OXMEM_ASSIGN_OR_RETURN(PlainEnd end, PlainEnd::Open(plan.wait, options));
  board.ready.store(true, std::memory_order_release);
  for (;;) {
    if (end.Receive()) end.Send(plan.response_bytes);
  }
}

absl::Status BatchEcho(const RawPlan& plan, const RawOptions& options, Board& board) {
  OXMEM_RETURN_IF_ERROR(Enter(plan.far));
  OXMEM_ASSIGN_OR_RETURN(const auto sender, OpenSender(plan.send, options));
  OXMEM_ASSIGN_OR_RETURN(const auto receiver, OpenReceiver(plan.receive, options));
  board.ready.store(true, std::memory_order_release);
  uint64_t bytes = 0;
  for (;;) {
    std::size_t got = receiver->Receive(bytes);
    if (got == 0) WaitFor(receiver->fd(), plan.wait);
    while (got != 0) got -= sender->Send(got, plan.response_bytes);
  }
}

absl::Status Swallow(const RawPlan& plan, const RawOptions& options, Board& board) {
  OXMEM_RETURN_IF_ERROR(Enter(plan.far));
  OXMEM_ASSIGN_OR_RETURN(const auto receiver, OpenReceiver(plan.receive, options));
  board.ready.store(true, std::memory_order_release);
  uint64_t frames = 0;
  uint64_t bytes = 0;
  for (;;) {
    const std::size_t got = receiver->Receive(bytes);
    if (got == 0) {
      WaitFor(receiver->fd(), plan.wait);
      continue;
    }
    frames += got;
    board.bytes.store(bytes, std::memory_order_relaxed);
    board.frames.store(frames, std::memory_order_release);
  }
}

using FarBody = absl::Status (*)(const RawPlan&, const RawOptions&, Board&);
using NearBody = absl::StatusOr<RawResult> (*)(const RawPlan&, const RawOptions&, Board&);

absl::StatusOr<RawResult> RunBoth(const RawPlan& plan, FarBody far, NearBody near) {
  const SharedBoard shared;
  if (shared.get() == nullptr) return ErrnoStatus(errno, "shared memory");
  Board& board = *shared.get();
  OXMEM_ASSIGN_OR_RETURN(const Pair pair, MeetBoth(plan));
  OXMEM_ASSIGN_OR_RETURN(const FarProcess process,
                         FarProcess::Start([&] { return far(plan, pair.far, board); }));
  OXMEM_RETURN_IF_ERROR(AwaitReady(board, plan));
  return near(plan, pair.near, board);
}

absl::StatusOr<RawResult> PingPongNear(const RawPlan& plan, const RawOptions& options, Board&) {
  OXMEM_ASSIGN_OR_RETURN(PlainEnd end, PlainEnd::Open(plan.wait, options));
  RawResult result;
  const Instant warm = Now() + plan.time / 5;
  Instant begin = Now();
  Instant before = begin;
  for (Instant until = begin + plan.time; before < until;) {
    if (!end.Send(plan.request_bytes) || !end.Receive()) {
      return absl::DeadlineExceededError("a frame was lost");
    }
    const Instant after = Now();
    if (after < warm) {
      begin = after;
      until = after + plan.time;
    } else {
      result.latency.Record(after - before);
      ++result.frames;
      result.bytes += plan.response_bytes;
    }
    before = after;
  }
  result.sent = result.frames;
  result.seconds = (before - begin).seconds();
  return result;
}

absl::StatusOr<RawResult> RateNear(const RawPlan& plan, const RawOptions& options, Board&) {
  OXMEM_ASSIGN_OR_RETURN(const auto sender, OpenSender(plan.send, options));
  OXMEM_ASSIGN_OR_RETURN(const auto receiver, OpenReceiver(plan.receive, options));
  RawResult result;
  const Instant warm = Now() + plan.time / 5;
  Instant begin = warm;
  bool warmed = false;
  std::size_t under_way = 0;
  Instant last_answer = Now();
  for (;;) {
    while (under_way < plan.depth) {
      const std::size_t sent = sender->Send(plan.depth - under_way, plan.request_bytes);
      under_way += sent;
      result.sent += sent;
    }
    const std::size_t got = receiver->Receive(result.bytes);
    const Instant now = Now();
    if (got == 0) {
      if (now - last_answer > kPatience) return absl::DeadlineExceededError("a frame was lost");
      WaitFor(receiver->fd(), plan.wait);
      continue;
    }
    last_answer = now;
    under_way -= std::min(got, under_way);
    result.frames += got;
    if (!warmed && now >= warm) {
      warmed = true;
      begin = now;
      result.frames = result.bytes = result.sent = 0;
    }
    if (warmed && now - begin >= plan.time) {
      result.seconds = (now - begin).seconds();
      return result;
    }
  }
}

absl::StatusOr<RawResult> OneWayNear(const RawPlan& plan, const RawOptions& options, Board& board) {
  OXMEM_ASSIGN_OR_RETURN(const auto sender, OpenSender(plan.send, options));
  RawResult result;
  uint64_t sent = 0;
  uint64_t sent_at_begin = 0;
  uint64_t frames_at_begin = 0;
  uint64_t bytes_at_begin = 0;
  const Instant warm = Now() + plan.time / 5;
  Instant begin;
  Instant progress = Now();
  for (bool warmed = false;;) {
    const uint64_t received = board.frames.load(std::memory_order_acquire);
    const uint64_t room = plan.depth == 0 ? 64 : plan.depth - std::min(plan.depth, sent - received);
    const std::size_t took =
        room == 0 ? 0 : sender->Send(std::min<std::size_t>(room, 64), plan.request_bytes);
    sent += took;
    const Instant now = Now();
    if (took == 0) {
      if (now - progress > kPatience) return absl::DeadlineExceededError("a frame was lost");
      Relax(plan);
    } else {
      progress = now;
    }
    if (!warmed && now >= warm) {
      warmed = true;
      begin = now;
      sent_at_begin = sent;
      frames_at_begin = board.frames.load(std::memory_order_acquire);
      bytes_at_begin = board.bytes.load(std::memory_order_relaxed);
    }
    if (warmed && now - begin >= plan.time) {
      result.sent = sent - sent_at_begin;
      result.frames = board.frames.load(std::memory_order_acquire) - frames_at_begin;
      result.bytes = board.bytes.load(std::memory_order_relaxed) - bytes_at_begin;
      result.seconds = (now - begin).seconds();
      return result;
    }
  }
}

}  // namespace

absl::StatusOr<RawResult> RunPingPong(const RawPlan& plan) {
  return RunBoth(plan, PlainEcho, PingPongNear);
}

absl::StatusOr<RawResult> RunRate(const RawPlan& plan) {
  return RunBoth(plan, BatchEcho, RateNear);
}

absl::StatusOr<RawResult> RunOneWay(const RawPlan& plan) {
  return RunBoth(plan, Swallow, OneWayNear);
}

}  // namespace oxmem::bench
