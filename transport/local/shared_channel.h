#ifndef TRANSPORT_LOCAL_SHARED_CHANNEL_H_
#define TRANSPORT_LOCAL_SHARED_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/api/completion_ring.h"
#include "transport/api/source.h"
#include "transport/base/fixed_queue.h"
#include "transport/base/unique_fd.h"
#include "transport/local/local_client.h"

namespace oxmem::transport {

struct SharedOptions {
  LocalTarget target;
  uint32_t depth = 256;
  // Of requests while the node is gone, and of the first connection.
  Duration timeout = Duration::Seconds(5);
};

// A channel to a region of a node on this host, whose memory is mapped into this process. Requests
// are carried out within Submit, as those of MemoryChannel; a flush of a persistent region is the
// node's work and completes when it has answered.
//
//              hang-up                  connected
//   connected ─────────▶ gone ────────────────────▶ hello sent
//       ▲                 ▲    every 50 ms              │  │
//       │                 └───────── refused, no answer ┘  │
//       └──────────────────────────────────────── offered ─┘
//
// While the node is gone, requests wait for it in order, and time out. A node that comes back with
// other memory replaces the mapping; the descriptor in limits().local_memory keeps its number and
// then stands for the new memory. Mappings that others made of it before show what the lost node
// left.
//
// The hang-up wakes a sleeping owner at once. A busy one sees it after a millisecond: looking at
// the socket costs a system call, which not every request should pay.
class SharedChannel final : public Channel {
 public:
  // Connects, and waits for the node's answer.
  static absl::StatusOr<std::unique_ptr<SharedChannel>> Open(SharedOptions options);

  std::size_t Submit(std::span<const Request> requests) override;
  std::size_t Poll(std::span<Completion> completions) override;
  bool Arm() override;
  int event_fd() const override { return epoll_.get(); }
  Instant next_deadline() const override;
  void Close() override;
  absl::StatusOr<MemoryHandle> Register(std::span<std::byte> memory) override;
  const Limits& limits() const override { return limits_; }
  const ChannelStats& stats() const override { return stats_; }
  const std::string& name() const override { return name_; }
  absl::Status health() const override;

 private:
  enum class State : uint8_t { kConnected, kGone, kHelloSent };
  struct Waiting {
    Request request;
    Instant start;
  };
  struct Flush {
    uint64_t id = 0;
    uint64_t cookie = 0;
    Instant start;
    bool done = false;
    uint16_t error = 0;
  };

  SharedChannel(SharedOptions options, std::unique_ptr<LocalConnection> connection, UniqueFd epoll,
                UniqueFd memory_fd);

  bool NodeIsNeeded(const Request& request) const;
  void Carry(const Request& request, Instant start);
  void Complete(Op op, const Completion& completion, Instant start, Instant now);
  void StartFlush(const Request& request, Instant start);
  void SendFlush(const Flush& flush);
  void FinishFlushes(Instant now);

  void LookAtNode(Instant now);
  void TakeMessages(Instant now);
  void Lose(Instant now, const absl::Status& why);
  void Reconnect(Instant now);
  void TakeOffer(Instant now);
  absl::Status Adopt();
  void CarryWaiting();
  void ExpireWaiting(Instant now);
  absl::Status WatchSocket();

  const SharedOptions options_;
  std::unique_ptr<LocalConnection> connection_;  // null while the node is gone
  UniqueFd epoll_;
  UniqueFd memory_fd_;  // the number that limits_ announces
  std::shared_ptr<MappedMemory> memory_;
  Limits limits_;
  std::string name_;

  State state_ = State::kConnected;
  absl::Status trouble_;  // why the node is not there
  Instant next_look_;     // at the socket, while busy
  Instant next_attempt_;  // to connect, or to give up waiting for the answer
  bool look_due_ = false;
  bool armed_ = false;  // the owner slept, so the socket may have something

  CompletionRing done_;
  FixedQueue<Waiting> waiting_;  // for the node, in order
  FixedQueue<Flush> flushes_;    // at the node, in order
  uint64_t last_flush_id_ = 0;
  std::size_t in_flight_ = 0;
  ChannelStats stats_;
  bool closed_ = false;
};

// unix:/path.sock?region=R — a region of the node that listens at the path
// shm://NAME[/R]           — of the node that listens as shm://NAME: the socket NAME.shm in
//                            $OXMEM_RUNTIME_DIR if that is set, else in /run/oxmem or
//                            $XDG_RUNTIME_DIR/oxmem
//
//   region=     needed if the node has several
//   read_only=  no (default) or yes: maps for reading only
//   timeout=    5s: of requests while the node is gone
//   depth=      256: requests accepted and not yet polled
absl::StatusOr<SharedOptions> ParseSharedSource(const Source& source);
absl::StatusOr<std::unique_ptr<Channel>> OpenShared(const Source& source);

// Where a node that listens as shm://NAME makes its socket: the first place of the above that is
// this user's own.
absl::StatusOr<std::string> ListenPathOfName(const std::string& name);

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_SHARED_CHANNEL_H_
