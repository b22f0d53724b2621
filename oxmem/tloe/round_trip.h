#ifndef OXMEM_TLOE_ROUND_TRIP_H_
#define OXMEM_TLOE_ROUND_TRIP_H_

#include "transport/base/clock.h"

namespace oxmem::tloe {

// Measures the round trip and derives the resend timeout from it: smoothed mean plus four times
// the smoothed deviation, between two bounds, doubled with every timeout until a frame is
// acknowledged. The caller gives no samples of frames that were sent twice (Karn).
class RoundTrip {
 public:
  RoundTrip(Duration initial, Duration least, Duration most)
      : initial_(initial), least_(least), most_(most) {}

  void Reset();
  void AddSample(Duration sample);
  // At most `most` doublings, when the peer is there and what it was sent is not.
  void OnTimeout(int most) { backoff_ = backoff_ < most ? backoff_ + 1 : backoff_; }
  void OnProgress() { backoff_ = 0; }

  // Zero before the first sample.
  Duration smoothed() const { return smoothed_; }
  Duration timeout() const;

 private:
  Duration initial_;
  Duration least_;
  Duration most_;
  Duration smoothed_;
  Duration deviation_;
  int backoff_ = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_ROUND_TRIP_H_
