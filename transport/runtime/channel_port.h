#ifndef TRANSPORT_RUNTIME_CHANNEL_PORT_H_
#define TRANSPORT_RUNTIME_CHANNEL_PORT_H_

#include <atomic>
#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/runtime/reactor.h"

namespace oxmem::transport {

class ChannelPort;

// One request from any thread to a channel on a reactor. The sender owns it and keeps it, with the
// memory behind the request, until it is done. Reusable then.
class PortRequest : public ReactorTask {
 public:
  virtual ~PortRequest() = default;

  Request request;        // the cookie is the sender's own
  Completion completion;  // valid when done

  // On the reactor's thread, when completion is there. May start it again, or destroy it.
  virtual void OnDone() = 0;

 protected:
  PortRequest() = default;

 private:
  friend class ChannelPort;
  void Run() final;

  ChannelPort* port_ = nullptr;
  PortRequest* next_ = nullptr;
};

// A channel on a reactor, for threads that are not the reactor: their requests go through the
// reactor's queue to the channel, and wait here while that is full.
class ChannelPort final : public Pollable {
 public:
  // The reactor owns the port from then on, the port its channel. The pointer is good until the
  // reactor is destroyed.
  static absl::StatusOr<ChannelPort*> Add(Reactor& reactor, std::unique_ptr<Channel> channel);

  // Any thread. False if the queue is full or the reactor stops; the request was not taken then.
  // What was taken is done exactly once, also when the reactor stops. On the reactor's thread the
  // queue is not needed, and every request is taken.
  bool Start(PortRequest& request);

  // Any thread but the reactor's: starts a request and sleeps until it is done.
  Completion Run(const Request& request);

  // Constants of the channel, for any thread.
  const Limits& limits() const { return channel_->limits(); }
  const std::string& name() const { return channel_->name(); }
  const ChannelStats& stats() const { return channel_->stats(); }

  // On the reactor's thread.
  Channel& channel() { return *channel_; }
  bool Poll() override;
  bool Arm() override { return !fresh_ && channel_->Arm(); }
  int event_fd() const override { return channel_->event_fd(); }
  Instant next_deadline() const override { return channel_->next_deadline(); }
  void Close() override { channel_->Close(); }
  bool finished() const override { return in_flight_ == 0 && first_ == nullptr; }

 private:
  friend class PortRequest;

  ChannelPort(Reactor& reactor, std::unique_ptr<Channel> channel)
      : reactor_(reactor), channel_(std::move(channel)) {}

  void Enqueue(PortRequest& request);
  bool SubmitWaiting();

  Reactor& reactor_;
  const std::unique_ptr<Channel> channel_;
  PortRequest* first_ = nullptr;  // waiting to be submitted, in order
  PortRequest* last_ = nullptr;
  bool fresh_ = false;  // something came in since it was last tried to submit
  std::size_t in_flight_ = 0;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_RUNTIME_CHANNEL_PORT_H_
