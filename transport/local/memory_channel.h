#ifndef TRANSPORT_LOCAL_MEMORY_CHANNEL_H_
#define TRANSPORT_LOCAL_MEMORY_CHANNEL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "transport/api/channel.h"
#include "transport/api/completion_ring.h"
#include "transport/local/mapped_memory.h"

namespace oxmem::transport {

struct MemoryChannelOptions {
  std::string name = "mem";
  uint32_t depth = 256;
  // A copy of this size takes some milliseconds; Submit should not keep its thread for longer.
  uint64_t largest_request_bytes = 64 << 20;
  bool read_only = false;   // implied by memory that is not writable
  bool persistent = false;  // the memory outlives the process that made it
};

// A channel to memory mapped into this process. Requests are carried out within Submit; Poll hands
// out their completions, so there is never anything to wait for: event_fd is -1.
class MemoryChannel final : public Channel {
 public:
  MemoryChannel(std::shared_ptr<const MappedMemory> memory, MemoryChannelOptions options);

  std::size_t Submit(std::span<const Request> requests) override;
  std::size_t Poll(std::span<Completion> completions) override;
  bool Arm() override { return done_.empty(); }
  int event_fd() const override { return -1; }
  Instant next_deadline() const override { return Instant::Never(); }
  void Close() override { closed_ = true; }
  absl::StatusOr<MemoryHandle> Register(std::span<std::byte> memory) override;
  const Limits& limits() const override { return limits_; }
  const ChannelStats& stats() const override { return stats_; }
  const std::string& name() const override { return name_; }
  absl::Status health() const override { return absl::OkStatus(); }

 private:
  const std::shared_ptr<const MappedMemory> memory_;
  const std::string name_;
  const Limits limits_;
  CompletionRing done_;
  ChannelStats stats_;
  bool closed_ = false;
};

// The limits of a channel to such memory: everything is there, nothing is aligned.
Limits MemoryLimits(const MappedMemory& memory, const MemoryChannelOptions& options);

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_MEMORY_CHANNEL_H_
