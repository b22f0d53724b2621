#ifndef TESTS_CONTRACT_ASYNC_CHANNEL_H_
#define TESTS_CONTRACT_ASYNC_CHANNEL_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "transport/api/channel.h"
#include "transport/base/unique_fd.h"

namespace oxmem::transport {

// A channel whose requests are carried out by a thread of its own, over one that needs no wake-up:
// the completions come at any time and through an event descriptor, as from a real peer.
class AsyncChannel final : public Channel {
 public:
  explicit AsyncChannel(std::unique_ptr<Channel> below);
  ~AsyncChannel() override;

  std::size_t Submit(std::span<const Request> requests) override;
  std::size_t Poll(std::span<Completion> completions) override;
  bool Arm() override;
  int event_fd() const override { return event_fd_.get(); }
  Instant next_deadline() const override { return Instant::Never(); }
  void Close() override;
  absl::StatusOr<MemoryHandle> Register(std::span<std::byte>) override {
    return std::make_unique<NoRegistration>();
  }
  const Limits& limits() const override { return limits_; }
  const ChannelStats& stats() const override { return stats_; }
  const std::string& name() const override { return name_; }
  absl::Status health() const override { return absl::OkStatus(); }

 private:
  void Work();

  const std::unique_ptr<Channel> below_;  // used by the thread alone
  const Limits limits_;
  const std::string name_;
  UniqueFd event_fd_;
  ChannelStats stats_;
  std::size_t in_flight_ = 0;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Request> waiting_;
  std::vector<Completion> finished_;
  std::vector<Op> finished_ops_;
  bool armed_ = false;
  bool signalled_ = false;
  bool closed_ = false;
  bool stop_ = false;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace oxmem::transport

#endif  // TESTS_CONTRACT_ASYNC_CHANNEL_H_
