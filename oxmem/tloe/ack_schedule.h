#ifndef OXMEM_TLOE_ACK_SCHEDULE_H_
#define OXMEM_TLOE_ACK_SCHEDULE_H_

#include "transport/base/clock.h"

namespace oxmem::tloe {

// When an acknowledgement must go out by itself because no other frame carried it (section 4,
// delayed acknowledgement).
class AckSchedule {
 public:
  void Reset() { *this = AckSchedule(); }

  // A frame that is to be acknowledged arrived; the `every`-th one does not wait.
  void OnFrame(Instant now, Duration delay, int every) {
    if (!pending_) deadline_ = now + delay;
    pending_ = true;
    if (++frames_ >= every) at_once_ = true;
  }
  // A gap: the next frame says NAK and does not wait.
  void RequestNak() { nak_ = at_once_ = pending_ = true; }
  void RequestNow() { at_once_ = pending_ = true; }

  bool IsDue(Instant now) const { return pending_ && (at_once_ || now >= deadline_); }
  Instant deadline() const {
    return !pending_ ? Instant::Never() : at_once_ ? Instant() : deadline_;
  }
  bool nak() const { return nak_; }

  // Some frame carried it.
  void OnSent() { Reset(); }

 private:
  bool pending_ = false;
  bool at_once_ = false;
  bool nak_ = false;
  int frames_ = 0;
  Instant deadline_;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_ACK_SCHEDULE_H_
