#include "apps/common/channel_wait.h"

#include <poll.h>
#include <time.h>

#include <algorithm>
#include <array>

namespace oxmem::apps {
namespace {

// Sleeps until one of the descriptors is readable or the moment has come. True if stop_fd is.
bool Sleep(int channel_fd, int stop_fd, Instant until) {
  std::array<pollfd, 2> fds = {pollfd{stop_fd, POLLIN, 0}, pollfd{channel_fd, POLLIN, 0}};
  timespec timeout{};
  timespec* limit = nullptr;
  if (!until.is_never()) {
    const int64_t left = std::max<int64_t>((until - Now()).nanoseconds(), 0);
    timeout.tv_sec = left / 1'000'000'000;
    timeout.tv_nsec = left % 1'000'000'000;
    limit = &timeout;
  }
  return ppoll(fds.data(), fds.size(), limit, nullptr) > 0 && fds[0].revents != 0;
}

}  // namespace

std::size_t WaitForCompletions(transport::Channel& channel,
                               std::span<transport::Completion> completions, const WaitStyle& style,
                               Instant until, int stop_fd) {
  std::size_t count = channel.Poll(completions);
  if (count != 0) return count;
  Instant now = Now();
  while (count == 0) {
    const Instant spin_until = std::min(now + style.spin, until);
    while (now < spin_until) {
      count = channel.Poll(completions);
      if (count != 0) return count;
      now = Now();
    }
    if (now >= until) return 0;
    const Instant due = std::min(until, channel.next_deadline());
    const bool can_be_woken = channel.event_fd() >= 0 || !due.is_never();
    if (can_be_woken && channel.Arm() && Sleep(channel.event_fd(), stop_fd, due)) return 0;
    count = channel.Poll(completions);
    now = Now();
  }
  return count;
}

}  // namespace oxmem::apps
