#ifndef APPS_COMMON_CHANNEL_WAIT_H_
#define APPS_COMMON_CHANNEL_WAIT_H_

#include <cstddef>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/api/request.h"
#include "transport/base/clock.h"
#include "transport/base/lazy_timer.h"

namespace oxmem::apps {

// How a thread waits for its channel: it polls for a while, then sleeps. One thread.
class ChannelWaiter {
 public:
  static absl::StatusOr<ChannelWaiter> Create();

  // Waits until the channel completes something and returns how many completions there are; 0 when
  // `until` has passed or `stop_fd` (-1: none) is readable. Sleeps once it has polled for `spin`.
  // Drives the channel's timers meanwhile.
  std::size_t Wait(transport::Channel& channel, std::span<transport::Completion> completions,
                   Duration spin, Instant until, int stop_fd);

 private:
  explicit ChannelWaiter(LazyTimer timer) : timer_(std::move(timer)) {}
  // Sleeps until one of the descriptors is readable, at most until the moment has come. True if
  // stop_fd is.
  bool Sleep(int channel_fd, int stop_fd, Instant now, Instant until);

  LazyTimer timer_;
};

}  // namespace oxmem::apps

#endif  // APPS_COMMON_CHANNEL_WAIT_H_
