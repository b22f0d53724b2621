#ifndef OXMEM_TLOE_RESTART_SUSPICION_H_
#define OXMEM_TLOE_RESTART_SUSPICION_H_

#include "transport/base/clock.h"

namespace oxmem::tloe {

// Decides whether a peer has begun anew without saying so. One frame that does not fit the
// connection may be an old one that came late; several of them over a while, with none that fits
// among them, are not.
class RestartSuspicion {
 public:
  void Reset() { count_ = 0; }
  void OnFitting() { count_ = 0; }
  // True once it is certain: at least `times` of them, the first `lasting` ago.
  bool OnMisfit(Instant now, int times, Duration lasting) {
    if (count_++ == 0) since_ = now;
    return count_ >= times && now - since_ >= lasting;
  }

 private:
  int count_ = 0;
  Instant since_;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_RESTART_SUSPICION_H_
