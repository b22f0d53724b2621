#ifndef FS_FUSE_IDLE_SPIN_H_
#define FS_FUSE_IDLE_SPIN_H_

#include <algorithm>
#include <optional>

#include "transport/base/clock.h"

namespace oxmem::fs {

// How long a thread that has nothing to do looks for work before it sleeps. A processor that went
// idle takes 10 to 20 us to come back on many machines, for the thread and for whoever waits for
// it, so where work comes as fast as that, sleeping between two pieces costs more than looking.
//
// Unless a length is given: as long as work came soon lately, kLooking; else not at all. A look
// that was in vain costs at most kLooking, and two in a row end it until work came soon again
// several times, so that an idle thread costs nothing.
class IdleSpin {
 public:
  static constexpr Duration kLooking = Duration::Microseconds(50);

  // nullopt: as it pays.
  explicit IdleSpin(std::optional<Duration> length) : length_(length) {}

  Duration length() const {
    if (length_.has_value()) return *length_;
    return trust_ >= kEnough ? kLooking : Duration();
  }

  // Work came after so long without any.
  void OnWork(Duration idle) {
    trust_ = idle <= kLooking ? std::min(trust_ + 1, kMost) : trust_ / 2;
  }

 private:
  static constexpr int kEnough = 4;
  static constexpr int kMost = 8;

  std::optional<Duration> length_;
  int trust_ = 0;
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_IDLE_SPIN_H_
