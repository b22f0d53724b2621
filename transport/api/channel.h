#ifndef TRANSPORT_API_CHANNEL_H_
#define TRANSPORT_API_CHANNEL_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/api/limits.h"
#include "transport/api/request.h"
#include "transport/api/stats.h"
#include "transport/base/clock.h"

namespace oxmem::transport {

// Memory the channel may read and write without a copy, for as long as this lives. Destroyed by the
// channel's owner thread, before the channel, and after every request on the memory has completed.
class MemoryRegistration {
 public:
  virtual ~MemoryRegistration() = default;
};
using MemoryHandle = std::unique_ptr<MemoryRegistration>;

// The way to one region of memory that may lie in another machine.
//
// Threads: one thread owns a channel and makes every call, except stats() and name(), which any
// thread may call. Nothing here blocks, calls back or allocates per request.
//
// Progress is made by Poll and, where it costs nothing extra, by Submit. An owner that wants to
// sleep:
//
//   while ((n = channel.Poll(completions)) == 0) {
//     if (!channel.Arm()) continue;         // something came in meanwhile
//     poll(event_fd, until next_deadline);  // either wakes it
//   }
//
// Every accepted request completes exactly once, whatever happens to the peer, to the channel or to
// time. Completions come in any order. The order of overlapping requests that are in flight
// together is unspecified; a request submitted after the completion of another sees its effect.
//
// Loss of the peer: the channel looks for it by itself. Meanwhile requests are accepted up to the
// depth, and each fails with kTimedOut at its own deadline. What the peer may have applied before
// it was lost is sent again where that does no harm (all but atomics); those end with kPeerLost.
class Channel {
 public:
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // Takes the first n of the requests and returns n. A short count means that the channel is full:
  // poll, then submit the rest. A request that can never work is taken and completes with an error.
  virtual std::size_t Submit(std::span<const Request> requests) = 0;

  // Makes progress and fills in completions of finished requests; returns how many. Zero means only
  // that nothing is finished now.
  virtual std::size_t Poll(std::span<Completion> completions) = 0;

  // Asks for event_fd to become readable at the next event. False if there may be completions or
  // input already: poll again instead of sleeping. What made the descriptor readable is consumed by
  // the next Poll.
  virtual bool Arm() = 0;

  // For poll or epoll, readable after Arm; the same number for the channel's life. -1 if the
  // channel completes everything within Submit and Poll and never needs a wake-up.
  virtual int event_fd() const = 0;

  // Poll must be called no later than this (resends, deadlines of requests); Never if nothing is
  // due.
  virtual Instant next_deadline() const = 0;

  // Completes what is under way with kClosed and refuses (with kClosed) what comes after. The peer
  // is told where the protocol has a way. Poll still hands out the completions. Idempotent.
  virtual void Close() = 0;

  // Memory of the caller's to be used in requests; see Limits::needs_registration. A channel
  // without registration returns a handle that does nothing.
  virtual absl::StatusOr<MemoryHandle> Register(std::span<std::byte> memory) = 0;

  virtual const Limits& limits() const = 0;
  virtual const ChannelStats& stats() const = 0;

  // Of the region, as a person would say it: "tloe 04:3f:72:dd:0b:05 on eth1". Stable.
  virtual const std::string& name() const = 0;

  // OK while the peer answers; otherwise what is wrong with it, on what, and what to try.
  virtual absl::Status health() const = 0;

 protected:
  Channel() = default;
};

// The handle of channels that need no registration.
class NoRegistration final : public MemoryRegistration {};

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_CHANNEL_H_
