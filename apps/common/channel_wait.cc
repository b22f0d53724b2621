#include "apps/common/channel_wait.h"

#include <poll.h>

#include <algorithm>
#include <array>

#include "transport/base/status.h"

namespace oxmem::apps {

absl::StatusOr<ChannelWaiter> ChannelWaiter::Create() {
  OXMEM_ASSIGN_OR_RETURN(LazyTimer timer, LazyTimer::Create());
  return ChannelWaiter(std::move(timer));
}

bool ChannelWaiter::Sleep(int channel_fd, int stop_fd, Instant now, Instant until) {
  timer_.Set(now, until);
  std::array<pollfd, 3> fds = {pollfd{stop_fd, POLLIN, 0}, pollfd{channel_fd, POLLIN, 0},
                               pollfd{timer_.fd(), POLLIN, 0}};
  return poll(fds.data(), fds.size(), -1) > 0 && fds[0].revents != 0;
}

std::size_t ChannelWaiter::Wait(transport::Channel& channel,
                                std::span<transport::Completion> completions, Duration spin,
                                Instant until, int stop_fd) {
  std::size_t count = channel.Poll(completions);
  if (count != 0) return count;
  Instant now = Now();
  while (count == 0) {
    const Instant spin_until = std::min(now + spin, until);
    while (now < spin_until) {
      count = channel.Poll(completions);
      if (count != 0) return count;
      now = Now();
    }
    if (now >= until) return 0;
    const Instant due = std::min(until, channel.next_deadline());
    const bool can_be_woken = channel.event_fd() >= 0 || !due.is_never();
    if (can_be_woken && channel.Arm() && Sleep(channel.event_fd(), stop_fd, now, due)) return 0;
    count = channel.Poll(completions);
    if (count == 0) now = Now();
  }
  return count;
}

}  // namespace oxmem::apps
