#ifndef OXMEM_TLOE_LONG_FRAMES_H_
#define OXMEM_TLOE_LONG_FRAMES_H_

#include <algorithm>
#include <array>
#include <cstddef>

#include "transport/base/clock.h"

// Frames that are too long for some part of the way to the peer, whose MTU nobody tells: they
// vanish however often they are sent, while shorter ones arrive.

namespace oxmem::tloe {

// Shorter ones pass every Ethernet.
inline constexpr std::size_t kLongFrameBytes = 256;

// Decides whether the oldest frame that is not acknowledged is too long, and not just lost.
class LongFrameSuspicion {
 public:
  // Another frame is the oldest from now on.
  void OnProgress(Instant now) {
    since_ = now;
    signs_ = 0;
  }
  // The peer has said something that does not acknowledge it, which was sent `resends` times again.
  void OnSignOfLife(int resends) {
    if (resends > 0) ++signs_;
  }
  bool HasSign() const { return signs_ > 0; }
  bool IsCertain(Instant now, std::size_t frame_bytes, int resends, Duration lasting) const {
    return frame_bytes >= kLongFrameBytes && resends >= kResends && signs_ >= kSigns &&
           now - since_ >= lasting;
  }

 private:
  // So many losses in a row are no chance even where every tenth frame gets lost.
  static constexpr int kResends = 8;
  static constexpr int kSigns = 3;

  Instant since_;
  int signs_ = 0;
};

// The longest frame to try when one of `lost_bytes` is too long: what usual networks take, of jumbo
// frames, plain ones, those within a tunnel, and what IPv4 promises; then halves.
inline std::size_t FrameBytesBelow(std::size_t lost_bytes) {
  constexpr std::array<std::size_t, 4> kUsual = {9000, 1500, 1400, 576};
  for (const std::size_t usual : kUsual) {
    if (usual < lost_bytes) return usual;
  }
  return std::max<std::size_t>(lost_bytes / 2, 64) & ~std::size_t{7};
}

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_LONG_FRAMES_H_
