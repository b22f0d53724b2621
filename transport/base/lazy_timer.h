#ifndef TRANSPORT_BASE_LAZY_TIMER_H_
#define TRANSPORT_BASE_LAZY_TIMER_H_

#include "absl/status/statusor.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem {

// Wakes a sleeper by a deadline that moves on with every request. Setting a timer of the kernel for
// every sleep costs a microsecond or more, twice on virtual machines, and is nearly always for
// nothing, as the answer comes first. So a timer that would go off early enough stays as it is: now
// and then the sleeper wakes before its deadline and has to look at the clock. One thread.
class LazyTimer {
 public:
  static absl::StatusOr<LazyTimer> Create();

  // Readable, for poll or epoll, from the moment that Set promised at the latest until the next
  // Set.
  int fd() const { return fd_.get(); }

  // Before a sleep that starts now. The descriptor is not readable afterwards, unless the deadline
  // has passed.
  void Set(Instant now, Instant deadline);

 private:
  explicit LazyTimer(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
  Instant goes_off_ = Instant::Never();
};

}  // namespace oxmem

#endif  // TRANSPORT_BASE_LAZY_TIMER_H_
