#include "transport/local/shared_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/api/accounting.h"
#include "transport/api/validate.h"
#include "transport/base/check.h"
#include "transport/base/size.h"
#include "transport/base/status.h"
#include "transport/local/memory_channel.h"
#include "transport/local/memory_ops.h"
#include "transport/local/unix_socket.h"

namespace oxmem::transport {
namespace {

constexpr Duration kLookInterval = Duration::Milliseconds(1);
constexpr Duration kRetryInterval = Duration::Milliseconds(50);
// A node that syncs gigabytes to a disk takes its time; one that is stopped must not hold a flush
// for ever.
constexpr Duration kFlushTimeout = Duration::Seconds(60);

// Waits for the first answer of the node.
absl::Status WaitForOffer(LocalConnection& connection, Duration timeout) {
  const Instant until = Now() + timeout;
  while (true) {
    absl::StatusOr<bool> offered = connection.Progress();
    if (!offered.ok()) return offered.status();
    if (*offered) return absl::OkStatus();
    if (Now() >= until) {
      return absl::DeadlineExceededError(
          absl::StrCat("the node does not answer within ", timeout.seconds(),
                       " s (it accepted the connection; does it still run?)"));
    }
    pollfd entry{.fd = connection.socket(), .events = POLLIN, .revents = 0};
    poll(&entry, 1, PollTimeoutMs(Now(), until));
  }
}

Limits SharedLimits(const LocalConnection& connection, const SharedOptions& options,
                    int memory_fd) {
  Limits limits = MemoryLimits(*connection.memory(), {.depth = options.depth});
  limits.read_only = connection.offer().read_only;
  limits.persistent = connection.offer().persistent;
  if (limits.local_memory) limits.local_memory->fd = memory_fd;
  return limits;
}

bool SameFile(int a, int b) {
  struct stat first;
  struct stat second;
  return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SharedChannel>> SharedChannel::Open(SharedOptions options) {
  OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<LocalConnection> connection,
                         LocalConnection::Connect(options.target));
  OXMEM_RETURN_IF_ERROR(Annotate(WaitForOffer(*connection, options.timeout), connection->path()));
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd memory_fd(fcntl(connection->memory()->fd(), F_DUPFD_CLOEXEC, 0));
  if (!epoll.valid() || !memory_fd.valid()) return ErrnoStatus(errno, connection->path());
  std::unique_ptr<SharedChannel> channel(new SharedChannel(
      std::move(options), std::move(connection), std::move(epoll), std::move(memory_fd)));
  OXMEM_RETURN_IF_ERROR(channel->WatchSocket());
  return channel;
}

SharedChannel::SharedChannel(SharedOptions options, std::unique_ptr<LocalConnection> connection,
                             UniqueFd epoll, UniqueFd memory_fd)
    : options_(std::move(options)),
      connection_(std::move(connection)),
      epoll_(std::move(epoll)),
      memory_fd_(std::move(memory_fd)),
      memory_(connection_->memory()),
      limits_(SharedLimits(*connection_, options_, memory_fd_.get())),
      name_(absl::StrCat("region ", connection_->region(), " of unix:", connection_->path())),
      done_(options_.depth),
      waiting_(options_.depth),
      flushes_(options_.depth) {}

absl::Status SharedChannel::WatchSocket() {
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection_->socket(), &event) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot wait for ", connection_->path()));
  }
  return absl::OkStatus();
}

bool SharedChannel::NodeIsNeeded(const Request& request) const {
  return request.op == Op::kFlush && limits_.persistent;
}

std::size_t SharedChannel::Submit(std::span<const Request> requests) {
  if (requests.empty()) return 0;
  Instant now = Now();
  look_due_ = look_due_ || now >= next_look_;
  std::size_t taken = 0;
  for (const Request& request : requests) {
    if (in_flight_ == limits_.depth) break;
    ++in_flight_;
    ++taken;
    const Code code = closed_ ? Code::kClosed : Validate(request, limits_);
    if (code != Code::kOk) {
      Complete(request.op, {.cookie = request.cookie, .code = code}, now, now);
    } else if (state_ != State::kConnected || !waiting_.empty()) {
      waiting_.Push({request, now});
    } else {
      Carry(request, now);
      now = Now();
    }
  }
  stats_.in_flight.Set(in_flight_);
  return taken;
}

void SharedChannel::Carry(const Request& request, Instant start) {
  if (NodeIsNeeded(request)) {
    StartFlush(request, start);
    return;
  }
  const Completion completion = Execute(request, *memory_);
  Complete(request.op, completion, start, Now());
}

void SharedChannel::Complete(Op op, const Completion& completion, Instant start, Instant now) {
  CountCompletion(stats_, op, completion.code, completion.bytes, now - start);
  done_.Push(completion);
}

void SharedChannel::StartFlush(const Request& request, Instant start) {
  flushes_.Push({.id = ++last_flush_id_, .cookie = request.cookie, .start = start});
  SendFlush(flushes_[flushes_.size() - 1]);
}

void SharedChannel::SendFlush(const Flush& flush) {
  const absl::Status sent =
      SendPacket(connection_->socket(), EncodeLocalMessage(LocalFlush{flush.id}));
  // Anything but a full socket is a hang-up, which the next look at it finds as well. A full one is
  // a node that reads nothing: its flushes time out.
  if (!sent.ok()) next_look_ = Instant();
}

// Flushes end in the order they were asked for.
void SharedChannel::FinishFlushes(Instant now) {
  while (!flushes_.empty()) {
    const Flush& flush = flushes_.front();
    Completion completion{.cookie = flush.cookie};
    if (flush.done) {
      completion.code = flush.error == 0 ? Code::kOk : Code::kFailed;
      completion.provider_code = flush.error;
    } else if (closed_) {
      completion.code = Code::kClosed;
    } else if (now >= flush.start + kFlushTimeout ||
               (state_ != State::kConnected && now >= flush.start + options_.timeout)) {
      completion.code = Code::kTimedOut;
    } else {
      return;
    }
    Complete(Op::kFlush, completion, flush.start, now);
    flushes_.Pop();
  }
}

std::size_t SharedChannel::Poll(std::span<Completion> completions) {
  const bool idle = done_.empty();
  if (idle || look_due_ || armed_ || !flushes_.empty() || state_ != State::kConnected) {
    const Instant now = Now();
    LookAtNode(now);
    FinishFlushes(now);
    ExpireWaiting(now);
  }
  const std::size_t count = done_.Pop(completions);
  in_flight_ -= count;
  stats_.in_flight.Set(in_flight_);
  return count;
}

void SharedChannel::LookAtNode(Instant now) {
  if (closed_) return;
  switch (state_) {
    case State::kConnected:
      if (!armed_ && now < next_look_ && flushes_.empty()) return;
      armed_ = false;
      look_due_ = false;
      next_look_ = now + kLookInterval;
      TakeMessages(now);
      return;
    case State::kGone:
      if (now >= next_attempt_) Reconnect(now);
      return;
    case State::kHelloSent:
      TakeOffer(now);
      return;
  }
}

void SharedChannel::TakeMessages(Instant now) {
  std::array<std::byte, kMaxLocalMessageBytes> buffer;
  while (true) {
    std::size_t length = 0;
    const Received received = ReceivePacket(connection_->socket(), buffer, &length, nullptr);
    if (received == Received::kNothing) return;
    if (received == Received::kHangUp) {
      Lose(now, absl::UnavailableError("the node is gone (its end of the connection is closed)"));
      return;
    }
    const auto message = DecodeLocalMessage(std::span(buffer).first(length));
    const auto* const flushed = message ? std::get_if<LocalFlushed>(&*message) : nullptr;
    if (flushed == nullptr) {
      stats_.malformed.Increment();
      Lose(now, absl::UnavailableError("the node sent something that is not understood"));
      return;
    }
    for (std::size_t i = 0; i < flushes_.size(); ++i) {
      if (flushes_[i].id != flushed->id) continue;
      flushes_[i].done = true;
      flushes_[i].error = flushed->error;
    }
  }
}

void SharedChannel::Lose(Instant now, const absl::Status& why) {
  // Closing the socket takes it out of the epoll set as well.
  connection_.reset();
  state_ = State::kGone;
  trouble_ = why;
  next_attempt_ = now;
}

void SharedChannel::Reconnect(Instant now) {
  absl::StatusOr<std::unique_ptr<LocalConnection>> connection =
      LocalConnection::Connect(options_.target);
  if (!connection.ok()) {
    trouble_ = connection.status();
    next_attempt_ = now + kRetryInterval;
    return;
  }
  connection_ = *std::move(connection);
  state_ = State::kHelloSent;
  next_attempt_ = now + options_.timeout;
  if (const absl::Status watched = WatchSocket(); !watched.ok()) Lose(now, watched);
}

void SharedChannel::TakeOffer(Instant now) {
  const absl::StatusOr<bool> offered = connection_->Progress();
  absl::Status failure = offered.ok() ? absl::OkStatus() : offered.status();
  if (offered.ok() && !*offered) {
    if (now < next_attempt_) return;
    failure = absl::DeadlineExceededError("the node is back but does not answer");
  } else if (offered.ok()) {
    failure = Adopt();
  }
  if (!failure.ok()) {
    Lose(now, failure);
    next_attempt_ = now + kRetryInterval;
    return;
  }
  state_ = State::kConnected;
  trouble_ = absl::OkStatus();
  next_look_ = now + kLookInterval;
  stats_.reconnects.Increment();
  // Answers to these were lost with the connection, and a second flush does no harm.
  for (std::size_t i = 0; i < flushes_.size(); ++i) {
    if (!flushes_[i].done) SendFlush(flushes_[i]);
  }
  CarryWaiting();
}

// Takes over the memory of a node that came back, if it is a region like the one before.
absl::Status SharedChannel::Adopt() {
  const LocalOffer& offer = connection_->offer();
  if (offer.size_bytes != limits_.size_bytes || (offer.read_only && !limits_.read_only) ||
      (limits_.persistent && !offer.persistent)) {
    return absl::FailedPreconditionError(
        absl::StrCat("the node came back with another region: ", FormatSize(offer.size_bytes),
                     offer.read_only ? ", read-only" : "", offer.persistent ? ", persistent" : "",
                     " (open it anew)"));
  }
  const std::shared_ptr<MappedMemory>& memory = connection_->memory();
  if (SameFile(memory->fd(), memory_->fd()) && memory->offset() == memory_->offset()) {
    return absl::OkStatus();
  }
  if (memory->offset() != memory_->offset()) {
    return absl::FailedPreconditionError(
        "the node came back with its region at another place of its file (open it anew)");
  }
  if (dup3(memory->fd(), memory_fd_.get(), O_CLOEXEC) < 0) {
    return ErrnoStatus(errno, "cannot take over the memory of the node that came back");
  }
  memory_ = memory;
  return absl::OkStatus();
}

void SharedChannel::CarryWaiting() {
  while (!waiting_.empty()) {
    const Waiting waiting = waiting_.front();
    waiting_.Pop();
    Carry(waiting.request, waiting.start);
  }
}

void SharedChannel::ExpireWaiting(Instant now) {
  while (!waiting_.empty()) {
    const Waiting& waiting = waiting_.front();
    if (!closed_ && now < waiting.start + options_.timeout) return;
    Complete(waiting.request.op,
             {.cookie = waiting.request.cookie, .code = closed_ ? Code::kClosed : Code::kTimedOut},
             waiting.start, now);
    waiting_.Pop();
  }
}

bool SharedChannel::Arm() {
  if (!done_.empty() || (closed_ && in_flight_ != 0)) return false;
  armed_ = true;
  return true;
}

Instant SharedChannel::next_deadline() const {
  if (closed_) return Instant::Never();
  Instant earliest = state_ == State::kConnected ? Instant::Never() : next_attempt_;
  if (!waiting_.empty()) earliest = std::min(earliest, waiting_.front().start + options_.timeout);
  if (!flushes_.empty()) {
    const Duration timeout = state_ == State::kConnected ? kFlushTimeout : options_.timeout;
    earliest = std::min(earliest, flushes_.front().start + timeout);
  }
  return earliest;
}

void SharedChannel::Close() {
  if (closed_) return;
  closed_ = true;
  connection_.reset();
  state_ = State::kGone;
}

absl::StatusOr<MemoryHandle> SharedChannel::Register(std::span<std::byte>) {
  return std::make_unique<NoRegistration>();
}

absl::Status SharedChannel::health() const {
  if (closed_ || state_ == State::kConnected) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(name_, ": ", std::string(trouble_.message())));
}

}  // namespace oxmem::transport
