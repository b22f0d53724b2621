#include "tests/contract/async_channel.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

#include "transport/api/accounting.h"
#include "transport/api/blocking.h"
#include "transport/base/check.h"

namespace oxmem::transport {
namespace {

Limits Unmappable(Limits limits) {
  limits.local_memory.reset();
  return limits;
}

}  // namespace

AsyncChannel::AsyncChannel(std::unique_ptr<Channel> below)
    : below_(std::move(below)),
      limits_(Unmappable(below_->limits())),
      name_("async " + below_->name()),
      event_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Work(); }) {
  OXMEM_CHECK(event_fd_.valid());
}

AsyncChannel::~AsyncChannel() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void AsyncChannel::Work() {
  while (true) {
    std::vector<Request> taken;
    bool closed = false;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
      if (stop_) return;
      taken.swap(waiting_);
      closed = closed_;
    }
    for (const Request& request : taken) {
      Completion completion{.cookie = request.cookie, .code = Code::kClosed};
      if (!closed) completion = Run(*below_, request);
      const std::lock_guard lock(mutex_);
      finished_.push_back(completion);
      finished_ops_.push_back(request.op);
      if (!std::exchange(armed_, false)) continue;
      signalled_ = true;
      const uint64_t one = 1;
      OXMEM_CHECK(write(event_fd_.get(), &one, sizeof one) == sizeof one);
    }
  }
}

std::size_t AsyncChannel::Submit(std::span<const Request> requests) {
  const std::size_t count = std::min<std::size_t>(requests.size(), limits_.depth - in_flight_);
  {
    const std::lock_guard lock(mutex_);
    waiting_.insert(waiting_.end(), requests.begin(),
                    requests.begin() + static_cast<std::ptrdiff_t>(count));
  }
  wake_.notify_one();
  in_flight_ += count;
  stats_.in_flight.Set(in_flight_);
  return count;
}

std::size_t AsyncChannel::Poll(std::span<Completion> completions) {
  const std::lock_guard lock(mutex_);
  armed_ = false;
  if (std::exchange(signalled_, false)) {
    uint64_t value = 0;
    OXMEM_CHECK(read(event_fd_.get(), &value, sizeof value) == sizeof value);
  }
  const std::size_t count = std::min(completions.size(), finished_.size());
  for (std::size_t i = 0; i < count; ++i) {
    completions[i] = finished_[i];
    CountCompletion(stats_, finished_ops_[i], finished_[i].code, finished_[i].bytes, Duration());
  }
  const auto rest = static_cast<std::ptrdiff_t>(count);
  finished_.erase(finished_.begin(), finished_.begin() + rest);
  finished_ops_.erase(finished_ops_.begin(), finished_ops_.begin() + rest);
  in_flight_ -= count;
  stats_.in_flight.Set(in_flight_);
  return count;
}

bool AsyncChannel::Arm() {
  const std::lock_guard lock(mutex_);
  armed_ = finished_.empty();
  return armed_;
}

void AsyncChannel::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
}

}  // namespace oxmem::transport
