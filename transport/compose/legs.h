#ifndef TRANSPORT_COMPOSE_LEGS_H_
#define TRANSPORT_COMPOSE_LEGS_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/base/unique_fd.h"

namespace oxmem::transport {

// The channels another channel is made of: what is the same for all kinds of composition. Used by
// the owner's thread.
class Legs {
 public:
  // At least one channel. Makes an epoll descriptor of their event descriptors.
  static absl::StatusOr<Legs> Create(std::vector<std::unique_ptr<Channel>> channels);

  std::size_t size() const { return channels_.size(); }
  Channel& operator[](std::size_t i) const { return *channels_[i]; }

  // As the contract has it for the whole: false if one of them refuses, -1 if none needs waking.
  bool Arm();
  int event_fd() const { return epoll_.valid() ? epoll_.get() : -1; }
  Instant next_deadline() const;
  void Close();
  absl::StatusOr<MemoryHandle> Register(std::span<std::byte> memory);

  // What all of them can do; size_bytes is the smallest size, depth the sum. Never local memory,
  // which would lead around the composition.
  Limits CommonLimits() const;

  // Summed into the statistics of the whole: reconnects, for every Poll; and the wire counters,
  // which are too many for that and are brought up to date when the owner goes to sleep.
  void SumReconnects(ChannelStats& into) const;
  void SumWireStats(ChannelStats& into) const;

  // "stripe (mem 1G, mem 1G)".
  std::string Name(const std::string& kind) const;

  // OK, or the first leg's trouble.
  absl::Status FirstTrouble() const;

 private:
  Legs() = default;

  std::vector<std::unique_ptr<Channel>> channels_;
  UniqueFd epoll_;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_LEGS_H_
