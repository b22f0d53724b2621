#include "transport/base/lazy_timer.h"

#include <sys/timerfd.h>
#include <time.h>

#include <algorithm>
#include <cerrno>

#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem {

absl::StatusOr<LazyTimer> LazyTimer::Create() {
  UniqueFd fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot create a timer");
  return LazyTimer(std::move(fd));
}

void LazyTimer::Set(Instant now, Instant deadline) {
  const bool went_off = goes_off_ <= now;
  if (!went_off && goes_off_ <= deadline) return;
  if (deadline.is_never() && !went_off) return;
  itimerspec when{};  // all zero: stopped
  if (!deadline.is_never()) {
    const int64_t ns = std::max<int64_t>(deadline.nanoseconds(), 1);
    when.it_value = {.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
  }
  OXMEM_CHECK(timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &when, nullptr) == 0);
  goes_off_ = deadline;
}

}  // namespace oxmem
