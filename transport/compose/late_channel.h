#ifndef TRANSPORT_COMPOSE_LATE_CHANNEL_H_
#define TRANSPORT_COMPOSE_LATE_CHANNEL_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/api/completion_ring.h"
#include "transport/base/mutex.h"
#include "transport/base/unique_fd.h"
#include "transport/compose/legs.h"

namespace oxmem::transport {

// Stands for a channel that cannot be opened yet, and whose limits are known from before. Looks for
// it in a thread of its own, since opening may block. Until it is there every request fails with
// kPeerLost at once; then all of them go to it, and it counts as found again (reconnects).
class LateChannel final : public Channel {
 public:
  struct Options {
    std::string name;
    Limits limits;  // without local memory, and without a need of registration
    // Called by the thread, also while other channels are used, until it succeeds or this ends.
    std::function<absl::StatusOr<std::unique_ptr<Channel>>()> open;
    absl::Status why;  // it is not open
    Duration interval = Duration::Seconds(1);
  };
  static absl::StatusOr<std::unique_ptr<LateChannel>> Create(Options options);
  // Waits for an attempt that is under way.
  ~LateChannel() override;

  std::size_t Submit(std::span<const Request> requests) override;
  std::size_t Poll(std::span<Completion> completions) override;
  bool Arm() override;
  int event_fd() const override { return epoll_.get(); }
  Instant next_deadline() const override;
  void Close() override;
  absl::StatusOr<MemoryHandle> Register(std::span<std::byte> memory) override;
  const Limits& limits() const override { return options_.limits; }
  const ChannelStats& stats() const override { return stats_; }
  const std::string& name() const override { return options_.name; }
  absl::Status health() const override;

 private:
  LateChannel(Options options, UniqueFd epoll, UniqueFd arrival, UniqueFd end);
  void Look();
  bool EndsWithin(Duration interval) const;
  absl::StatusOr<std::unique_ptr<Channel>> Attempt() const;
  void Adopt();

  const Options options_;
  UniqueFd epoll_;
  UniqueFd arrival_;  // readable when the channel is there
  CompletionRing done_;
  ChannelStats stats_;
  bool closed_ = false;
  std::optional<Legs> found_;  // one

  // Between the thread and the owner.
  UniqueFd end_;  // readable when the thread is to end
  Mutex mutex_;
  std::unique_ptr<Channel> arrived_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> has_arrived_{false};
  std::thread thread_;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_LATE_CHANNEL_H_
