#ifndef TESTS_SIM_ENGINE_PEER_H_
#define TESTS_SIM_ENGINE_PEER_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "oxmem/tloe/engine.h"
#include "tests/sim/network.h"

namespace oxmem::sim {

// An engine on a link, and a user above it that sends numbered messages on all five channels and
// checks that those of the other side come in order, each once, whole.
class EnginePeer {
 public:
  EnginePeer(const tloe::EngineConfig& config, std::unique_ptr<link::Link> link, uint64_t seed);

  void SetPeer(const link::Address& address) { peer_ = address; }
  const link::Address& address() const { return link_->local_address(); }
  tloe::Engine& engine() { return *engine_; }

  // Messages to send, on top of what is not sent yet.
  void Send(uint64_t count) { to_send_ += count; }
  void Open(Instant now);
  // The host restarts: nothing is remembered.
  void Restart();
  // The user has waited too long: the connection is given up and another one opened.
  void GiveUp(Instant now);

  // Takes what has arrived, lets the engine and the user act, and sends what comes out. Nothing
  // while it stands still.
  void Step(Instant now);
  Instant next_deadline() const {
    return std::max(std::min(engine_->next_deadline(), user_again_), stalled_until_);
  }
  // The host lets it wait: it does nothing until then, and what it is sent waits too.
  void StallUntil(Instant until) { stalled_until_ = until; }

  uint64_t sent() const { return sent_; }
  uint64_t received() const { return received_; }
  uint64_t unsent() const { return to_send_; }
  // Connections that began since construction.
  int connections() const { return connections_; }
  // Connections that failed, and why the last one did.
  int failures() const { return failures_; }
  tloe::Failure last_failure() const { return last_failure_; }
  int failures(tloe::Failure why) const { return failures_for_[static_cast<std::size_t>(why)]; }
  // The first thing that was wrong, empty if nothing was.
  const std::string& error() const { return error_; }
  // Contents are not looked at any more: they may have changed on the way.
  void DoNotCheck() { checking_ = false; }

 private:
  void Receive(Instant now);
  void OnFrame(Instant now, const link::IncomingFrame& frame);
  void TakeMessages(Instant now);
  void Check(const tilelink::DecodedMessage& decoded);
  void Produce(Instant now);
  bool ProduceOne();
  void Drain(Instant now);
  void Trace(std::span<const std::byte> frame) const;
  void SendFrame(std::span<const std::byte> frame);
  void Forget();
  void Wrong(const std::string& what);

  struct Pending {
    tilelink::Message message;
    std::vector<std::byte> data;
    std::vector<uint64_t> mask;
    bool ready = false;
  };

  tloe::EngineConfig config_;
  std::unique_ptr<tloe::Engine> engine_;
  std::unique_ptr<link::Link> link_;
  link::Address peer_;
  Random random_;
  Instant now_;
  bool checking_ = true;
  std::string error_;

  uint64_t to_send_ = 0;
  uint64_t sent_ = 0;
  uint64_t received_ = 0;
  int connections_ = 0;
  int failures_ = 0;
  tloe::Failure last_failure_ = tloe::Failure::kNone;
  std::array<int, static_cast<std::size_t>(tloe::Failure::kViolation) + 1> failures_for_{};
  Instant stalled_until_;
  bool connected_ = false;
  Instant open_again_ = Instant::Never();
  Instant user_again_ = Instant::Never();  // the user left something for later
  uint8_t incarnation_ = 0;                // of this side, in every message
  int peer_incarnation_ = -1;              // -1: no message yet
  std::array<uint32_t, tilelink::kChannelCount> next_number_{};
  std::array<uint32_t, tilelink::kChannelCount> expected_{};
  Pending pending_;
};

// Lets two peers run until `until`, or `done` says true at the end of a step. Returns false if they
// act without end at one moment.
template <typename Done>
bool Run(Network& network, EnginePeer& a, EnginePeer& b, Instant until, Done done) {
  int at_this_moment = 0;
  for (;;) {
    a.Step(network.now());
    b.Step(network.now());
    if (done()) return true;
    const Instant next =
        std::min({network.next_arrival(), a.next_deadline(), b.next_deadline(), until});
    at_this_moment = next <= network.now() ? at_this_moment + 1 : 0;
    if (at_this_moment > 10000) return false;
    network.AdvanceTo(std::max(next, network.now()));
    if (network.now() >= until) {
      a.Step(network.now());
      b.Step(network.now());
      return true;
    }
  }
}

}  // namespace oxmem::sim

#endif  // TESTS_SIM_ENGINE_PEER_H_
