#ifndef OXMEM_TLOE_CREDITS_H_
#define OXMEM_TLOE_CREDITS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "oxmem/tilelink/message.h"

// Flow control (section 5): one credit is one flit, counted for each channel and direction.

namespace oxmem::tloe {

struct CreditGrant {
  tilelink::Channel channel = tilelink::Channel::kA;
  uint8_t exponent = 0;  // 2^exponent flits
};

// What the peer lets this side send.
class SendCredits {
 public:
  // `enforced` is false for peers whose accounting does not give back what it takes.
  void Reset(bool enforced = true) {
    available_.fill(0);
    enforced_ = enforced;
  }
  void Enforce(bool enforced) { enforced_ = enforced; }

  void Add(tilelink::Channel channel, uint8_t exponent) {
    uint64_t& value = available_[IndexOf(channel)];
    value = std::min(value + (uint64_t{1} << (exponent & 31)), kMost);
  }
  bool Allows(tilelink::Channel channel, std::size_t flits) const {
    return !enforced_ || available_[IndexOf(channel)] >= flits;
  }
  void Spend(tilelink::Channel channel, std::size_t flits) {
    uint64_t& value = available_[IndexOf(channel)];
    value -= std::min<uint64_t>(value, flits);
  }
  uint64_t available(tilelink::Channel channel) const { return available_[IndexOf(channel)]; }

 private:
  // A peer may grant without end; the sum must not wrap.
  static constexpr uint64_t kMost = uint64_t{1} << 40;
  std::array<uint64_t, tilelink::kChannelCount> available_{};
  bool enforced_ = true;
};

// What this side lets the peer send: the receive buffer, flit by flit, is either granted to the
// peer, holding a message, or waiting to be granted.
//
//   waiting ── TakeGrant ──► granted ── OnReceived ──► held ── OnConsumed ──► waiting
class ReceiveCredits {
 public:
  using Flits = std::array<uint32_t, tilelink::kChannelCount>;

  // `worthwhile` is the longest message the peer may want to send: while it has less, even a small
  // return is worth a frame of its own.
  void Reset(const Flits& capacity, uint32_t worthwhile);

  // Takes the flits of a received message from what was granted. False if the peer sent more than
  // that.
  bool OnReceived(tilelink::Channel channel, uint32_t flits) {
    Counts& counts = counts_[IndexOf(channel)];
    counts.held += flits;
    const bool covered = flits <= counts.granted;
    counts.granted -= std::min(counts.granted, flits);
    // Waiting credits may become due with it, never urgent.
    if (counts.waiting != 0) Update(IndexOf(channel));
    return covered;
  }
  void OnConsumed(tilelink::Channel channel, uint32_t flits) {
    Counts& counts = counts_[IndexOf(channel)];
    counts.held -= std::min(counts.held, flits);
    // Flits sent without credit give none back.
    const uint32_t used = counts.granted + counts.held;
    const uint32_t room = counts.capacity > used ? counts.capacity - used : 0;
    counts.waiting = std::min(counts.waiting + flits, room);
    Update(IndexOf(channel));
  }

  // A power of two of one channel to be returned, channels taking turns.
  std::optional<CreditGrant> TakeGrant();
  // The same for a given channel.
  std::optional<CreditGrant> TakeGrantOf(tilelink::Channel channel);

  // A quarter of a buffer waits: worth a frame now.
  bool urgent() const { return urgent_ != 0; }
  // The peer may be short of credits while some wait: worth a frame soon.
  bool due() const { return due_ != 0; }

  uint32_t waiting(tilelink::Channel channel) const { return counts_[IndexOf(channel)].waiting; }
  uint32_t granted(tilelink::Channel channel) const { return counts_[IndexOf(channel)].granted; }

 private:
  struct Counts {
    uint32_t capacity = 0;
    uint32_t waiting = 0;
    uint32_t granted = 0;
    uint32_t held = 0;
  };

  void Update(std::size_t index) {
    const Counts& counts = counts_[index];
    const bool waiting = counts.waiting != 0;
    const auto assign = [index](uint8_t* bits, bool on) {
      *bits = static_cast<uint8_t>((*bits & ~(1u << index)) | unsigned{on} << index);
    };
    assign(&waiting_, waiting);
    assign(&urgent_, waiting && counts.waiting >= counts.capacity / 4);
    assign(&due_, waiting && counts.granted < worthwhile_);
  }

  std::array<Counts, tilelink::kChannelCount> counts_;
  uint32_t worthwhile_ = 0;
  std::size_t turn_ = 0;  // the channel to be looked at first
  // One bit a channel.
  uint8_t waiting_ = 0;
  uint8_t urgent_ = 0;
  uint8_t due_ = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_CREDITS_H_
