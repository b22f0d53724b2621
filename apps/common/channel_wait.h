#ifndef APPS_COMMON_CHANNEL_WAIT_H_
#define APPS_COMMON_CHANNEL_WAIT_H_

#include <cstddef>
#include <span>

#include "transport/api/channel.h"
#include "transport/api/request.h"
#include "transport/base/clock.h"

namespace oxmem::apps {

// How a thread waits for its channel: it polls for `spin`, then sleeps.
struct WaitStyle {
  Duration spin = Duration::Microseconds(50);
};

// Waits until the channel completes something and returns how many completions there are; 0 when
// `until` has passed or `stop_fd` (-1: none) is readable. Drives the channel's timers meanwhile.
std::size_t WaitForCompletions(transport::Channel& channel,
                               std::span<transport::Completion> completions, const WaitStyle& style,
                               Instant until, int stop_fd);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_CHANNEL_WAIT_H_
