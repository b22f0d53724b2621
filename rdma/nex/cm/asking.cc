#include "rdma/nex/cm/asking.h"

#include <algorithm>

namespace oxmem::nex {

void CmAsking::Start(Instant now) {
  *this = {};
  pause_ = kFirstPause;
  deadline_ = now + pause_;
  gives_up_ = now + kPatience;
}

CmAsking::Step CmAsking::OnRefused(Instant now) {
  if (heard_) return Step::kNothing;
  heard_ = true;
  if (++refusals_ > kRefusals) {
    Stop();
    return Step::kRefused;
  }
  if (refusals_ == 1 || deadline_.is_never()) deadline_ = now + kRefusalPause;
  return Step::kNothing;
}

CmAsking::Step CmAsking::OnDeadline(Instant now) {
  if (now < deadline_) return Step::kNothing;
  if (was_refused()) {
    if (++asked_after_ > kAfterRefusals) {
      Stop();
      return Step::kRefused;
    }
    deadline_ = now + kRefusalPause;
  } else {
    if (now >= gives_up_) {
      Stop();
      return Step::kUnanswered;
    }
    pause_ = std::min(pause_ * 2, kLongestPause);
    deadline_ = std::min(now + pause_, gives_up_);
  }
  heard_ = false;
  return Step::kAsk;
}

}  // namespace oxmem::nex
