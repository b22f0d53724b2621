#ifndef OXMEM_TLOE_LONG_FRAMES_H_
#define OXMEM_TLOE_LONG_FRAMES_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "transport/base/clock.h"

// Frames that are too long for some part of the way to the peer, whose MTU nobody tells: they
// vanish however often they are sent, while shorter ones arrive.

namespace oxmem::tloe {

// Shorter ones pass every Ethernet.
inline constexpr std::size_t kLongFrameBytes = 256;

// Decides whether the oldest frame that is not acknowledged is too long, and not just lost or late.
//
// An acknowledgement does not tell which frame made the peer send it: that may have waited in a
// queue for long. So nothing but the frame and, behind it, a short one that the peer acknowledges
// again are sent, and then there is quiet until the next time. A round of this is prompt when the
// peer sends a mere acknowledgement in the first half of it and none in the second. (Messages and
// probes come for reasons of their own.) What a queue holds is answered all the time, or at once
// when the way is free again, and the short frame soon and only once. As frames keep their order,
// the long one before it was lost then.
class LongFrameSuspicion {
 public:
  enum class Round : uint8_t {
    kNone,  // there was none
    kPrompt,
    kMissed,  // not prompt, as the first one: something got lost
    kSlow,    // not prompt again: rounds are too short for the way
  };

  // Another frame is the oldest from now on.
  void OnProgress(Instant now) {
    since_ = now;
    score_ = missed_ = 0;
    asked_ = false;
  }
  // The frame and a short one go out, and nothing else for `lasting`.
  void BeginRound(Instant now, Duration lasting) {
    asked_ = true;
    early_ = late_ = false;
    half_time_ = now + lasting / 2;
  }
  // The peer has sent an acknowledgement and no message, of what came before the frame.
  void OnAnswer(Instant now) { (now <= half_time_ ? early_ : late_) = true; }
  // A round that was not prompt takes a prompt one back.
  Round EndRound() {
    if (!asked_) return Round::kNone;
    asked_ = false;
    if (early_ && !late_) {
      ++score_;
      missed_ = 0;
      return Round::kPrompt;
    }
    score_ = std::max(score_ - 1, 0);
    return ++missed_ == 1 ? Round::kMissed : Round::kSlow;
  }
  bool IsCertain(Instant now, Duration lasting) const {
    return score_ >= kRounds && now - since_ >= lasting;
  }

 private:
  // With the sendings before the first round the frame was lost seven times in a row then: where
  // every tenth frame gets lost, once in 10^7; and just for frames longer than any that arrived.
  static constexpr int kRounds = 5;

  Instant since_;
  Instant half_time_;
  int score_ = 0;
  int missed_ = 0;  // in a row
  bool asked_ = false;
  bool early_ = false;
  bool late_ = false;
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
