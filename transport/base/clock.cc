#include "transport/base/clock.h"

#include <time.h>

#include <algorithm>

namespace oxmem {

Instant Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Instant::FromNanoseconds(int64_t{now.tv_sec} * 1000000000 + now.tv_nsec);
}

int PollTimeoutMs(Instant now, Instant until) {
  if (until.is_never()) return -1;
  if (until <= now) return 0;
  const int64_t ms = ((until - now).nanoseconds() + 999999) / 1000000;
  return static_cast<int>(std::min<int64_t>(ms, std::numeric_limits<int>::max()));
}

}  // namespace oxmem
