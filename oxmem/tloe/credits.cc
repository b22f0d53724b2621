#include "oxmem/tloe/credits.h"

#include <bit>

namespace oxmem::tloe {

using tilelink::Channel;

void ReceiveCredits::Reset(const Flits& capacity, uint32_t worthwhile) {
  worthwhile_ = worthwhile;
  turn_ = 0;
  waiting_ = urgent_ = due_ = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    counts_[i] = Counts{.capacity = capacity[i], .waiting = capacity[i]};
    Update(i);
  }
}

std::optional<CreditGrant> ReceiveCredits::TakeGrant() {
  if (waiting_ == 0) return std::nullopt;
  // Channels whose return is worth a frame come first, each kind in turn.
  const unsigned candidates = urgent_ != 0 ? urgent_ : due_ != 0 ? due_ : waiting_;
  const unsigned ahead = candidates >> turn_ << turn_;
  const auto index = static_cast<std::size_t>(std::countr_zero(ahead != 0 ? ahead : candidates));
  turn_ = index + 1 == counts_.size() ? 0 : index + 1;
  return TakeGrantOf(tilelink::ChannelAt(index));
}

std::optional<CreditGrant> ReceiveCredits::TakeGrantOf(Channel channel) {
  const std::size_t index = IndexOf(channel);
  Counts& counts = counts_[index];
  if (counts.waiting == 0) return std::nullopt;
  const auto exponent = static_cast<uint8_t>(std::bit_width(counts.waiting) - 1);
  counts.waiting -= 1u << exponent;
  counts.granted += 1u << exponent;
  Update(index);
  return CreditGrant{channel, exponent};
}

}  // namespace oxmem::tloe
