#ifndef TRANSPORT_COMPOSE_SHIM_CHANNEL_H_
#define TRANSPORT_COMPOSE_SHIM_CHANNEL_H_

#include <memory>
#include <string>
#include <utility>

#include "transport/api/channel.h"
#include "transport/api/completion_ring.h"

namespace oxmem::transport {

// The ground of channels that stand before a single other one and pass most of it through.
class ShimChannel : public Channel {
 public:
  int event_fd() const override { return below_->event_fd(); }
  absl::StatusOr<MemoryHandle> Register(std::span<std::byte> memory) override {
    return below_->Register(memory);
  }
  const Limits& limits() const override { return limits_; }
  const ChannelStats& stats() const override { return stats_; }
  const std::string& name() const override { return name_; }
  absl::Status health() const override { return below_->health(); }

 protected:
  ShimChannel(std::unique_ptr<Channel> below, const std::string& kind)
      : below_(std::move(below)),
        limits_(below_->limits()),
        name_(kind + " (" + below_->name() + ")"),
        done_(limits_.depth) {
    // Mapping the memory would lead around the shim.
    limits_.local_memory.reset();
  }

  // Hands out finished requests, as the end of Poll.
  std::size_t HandOut(std::span<Completion> completions) {
    const std::size_t count = done_.Pop(completions);
    in_flight_ -= count;
    stats_.in_flight.Set(in_flight_);
    return count;
  }

  std::unique_ptr<Channel> below_;
  Limits limits_;
  const std::string name_;
  CompletionRing done_;
  ChannelStats stats_;
  std::size_t in_flight_ = 0;  // accepted and not handed out
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_SHIM_CHANNEL_H_
