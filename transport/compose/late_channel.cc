#include "transport/compose/late_channel.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "transport/api/accounting.h"
#include "transport/base/check.h"
#include "transport/base/log.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

bool HasAll(const AtomicOps& found, const AtomicOps& wanted) {
  for (unsigned i = 0; i < kAtomicOpCount; ++i) {
    const auto op = static_cast<AtomicOp>(i);
    if (wanted.Has(op) && !found.Has(op)) return false;
  }
  return true;
}

// Whether what worked with the one limits works with the others.
bool IsAsGood(const Limits& found, const Limits& wanted) {
  return found.size_bytes >= wanted.size_bytes &&
         wanted.alignment_bytes % found.alignment_bytes == 0 &&
         found.largest_request_bytes >= wanted.largest_request_bytes &&
         found.read_only <= wanted.read_only && found.zero >= wanted.zero &&
         found.prefetch >= wanted.prefetch && !found.needs_registration &&
         found.persistent >= wanted.persistent && HasAll(found.atomics, wanted.atomics);
}

absl::Status Watch(int epoll, int fd) {
  epoll_event event{.events = EPOLLIN, .data = {}};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "epoll_ctl");
}

void Raise(int event) {
  const uint64_t one = 1;
  (void)!write(event, &one, sizeof one);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LateChannel>> LateChannel::Create(Options options) {
  OXMEM_CHECK(!options.limits.needs_registration && !options.limits.local_memory.has_value());
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  UniqueFd arrival(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd end(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll.valid() || !arrival.valid() || !end.valid()) return ErrnoStatus(errno, options.name);
  OXMEM_RETURN_IF_ERROR(Watch(epoll.get(), arrival.get()));
  std::unique_ptr<LateChannel> channel(
      new LateChannel(std::move(options), std::move(epoll), std::move(arrival), std::move(end)));
  channel->thread_ = std::thread([late = channel.get()] { late->Look(); });
  return channel;
}

LateChannel::LateChannel(Options options, UniqueFd epoll, UniqueFd arrival, UniqueFd end)
    : options_(std::move(options)),
      epoll_(std::move(epoll)),
      arrival_(std::move(arrival)),
      done_(options_.limits.depth),
      end_(std::move(end)) {}

LateChannel::~LateChannel() {
  Raise(end_.get());
  thread_.join();
}

bool LateChannel::EndsWithin(Duration interval) const {
  pollfd end{.fd = end_.get(), .events = POLLIN, .revents = 0};
  return poll(&end, 1, static_cast<int>(interval.nanoseconds() / 1000000)) > 0;
}

void LateChannel::Look() {
  LogLimiter log(Duration::Seconds(60));
  while (!EndsWithin(options_.interval)) {
    absl::StatusOr<std::unique_ptr<Channel>> found = Attempt();
    if (found.ok()) {
      {
        const MutexLock lock(&mutex_);
        arrived_ = *std::move(found);
      }
      has_arrived_ = true;
      Raise(arrival_.get());
      return;
    }
    uint64_t suppressed = 0;
    if (absl::IsFailedPrecondition(found.status()) && log.Allow(Now(), &suppressed)) {
      spdlog::warn("{}", std::string(found.status().message()));
    }
  }
}

absl::StatusOr<std::unique_ptr<Channel>> LateChannel::Attempt() const {
  OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<Channel> found, options_.open());
  if (IsAsGood(found->limits(), options_.limits)) return found;
  return absl::FailedPreconditionError(
      absl::StrCat(options_.name,
                   ": is there again, but smaller or less able than before, and "
                   "stays unused"));
}

void LateChannel::Adopt() {
  if (!has_arrived_ || found_.has_value()) return;
  std::unique_ptr<Channel> channel;
  {
    const MutexLock lock(&mutex_);
    channel = std::move(arrived_);
  }
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, arrival_.get(), nullptr);
  std::vector<std::unique_ptr<Channel>> one;
  one.push_back(std::move(channel));
  absl::StatusOr<Legs> legs = Legs::Create(std::move(one));
  if (legs.ok() && legs->event_fd() >= 0) {
    const absl::Status watched = Watch(epoll_.get(), legs->event_fd());
    if (!watched.ok()) legs = watched;
  }
  if (!legs.ok()) {
    spdlog::warn("{}: stays unused: {}", options_.name, std::string(legs.status().message()));
    has_arrived_ = false;
    return;
  }
  found_.emplace(*std::move(legs));
  if (closed_) found_->Close();
}

std::size_t LateChannel::Submit(std::span<const Request> requests) {
  if (found_.has_value()) return (*found_)[0].Submit(requests);
  std::size_t taken = 0;
  while (taken < requests.size() && !done_.full()) {
    const Request& request = requests[taken++];
    const Code code = closed_ ? Code::kClosed : Code::kPeerLost;
    CountCompletion(stats_, request.op, code, 0, Duration());
    done_.Push({.cookie = request.cookie, .code = code});
  }
  return taken;
}

std::size_t LateChannel::Poll(std::span<Completion> completions) {
  Adopt();
  std::size_t count = done_.Pop(completions);
  if (!found_.has_value()) return count;
  count += (*found_)[0].Poll(completions.subspan(count));
  found_->SumReconnects(stats_);
  stats_.reconnects.Increment();
  return count;
}

bool LateChannel::Arm() {
  if (!done_.empty()) return false;
  if (!found_.has_value()) return !has_arrived_;
  found_->SumWireStats(stats_);
  return found_->Arm();
}

Instant LateChannel::next_deadline() const {
  return found_.has_value() ? found_->next_deadline() : Instant::Never();
}

void LateChannel::Close() {
  closed_ = true;
  if (found_.has_value()) found_->Close();
}

absl::StatusOr<MemoryHandle> LateChannel::Register(std::span<std::byte> memory) {
  if (found_.has_value()) return found_->Register(memory);
  return std::make_unique<NoRegistration>();
}

absl::Status LateChannel::health() const {
  return found_.has_value() ? (*found_)[0].health() : options_.why;
}

}  // namespace oxmem::transport
