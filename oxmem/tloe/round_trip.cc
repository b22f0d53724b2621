#include "oxmem/tloe/round_trip.h"

#include <algorithm>

namespace oxmem::tloe {

void RoundTrip::Reset() {
  smoothed_ = Duration();
  deviation_ = Duration();
  backoff_ = 0;
}

void RoundTrip::AddSample(Duration sample) {
  sample = std::max(sample, Duration::Nanoseconds(1));
  if (smoothed_ == Duration()) {
    smoothed_ = sample;
    deviation_ = sample / 2;
    return;
  }
  const Duration error = sample - smoothed_;
  const Duration distance = std::max(error, Duration() - error);
  deviation_ = deviation_ + (distance - deviation_) / 4;
  smoothed_ = std::max(smoothed_ + error / 8, Duration::Nanoseconds(1));
}

Duration RoundTrip::timeout() const {
  Duration timeout =
      smoothed_ == Duration() ? initial_ : std::max(smoothed_ + deviation_ * 4, least_);
  for (int i = 0; i < backoff_ && timeout < most_; ++i) timeout = timeout * 2;
  return std::min(timeout, most_);
}

}  // namespace oxmem::tloe
