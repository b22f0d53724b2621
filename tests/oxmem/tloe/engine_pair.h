#ifndef TESTS_OXMEM_TLOE_ENGINE_PAIR_H_
#define TESTS_OXMEM_TLOE_ENGINE_PAIR_H_

#include <algorithm>
#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "oxmem/tloe/engine.h"
#include "transport/base/clock.h"

namespace oxmem::tloe {

using Bytes = std::vector<std::byte>;

inline Instant At(int64_t microseconds) { return Instant::FromNanoseconds(microseconds * 1000); }

struct Received {
  tilelink::Message message;
  Bytes data;
};

// What NextMessage hands out, copied.
inline std::vector<Received> TakeMessages(Engine& engine) {
  std::vector<Received> taken;
  while (const tilelink::DecodedMessage* decoded = engine.NextMessage()) {
    Received received{decoded->message, Bytes(tilelink::DataBytes(decoded->message))};
    if (!received.data.empty())
      tilelink::CopyData(decoded->message, decoded->payload, engine.data_order(), received.data);
    taken.push_back(std::move(received));
  }
  return taken;
}

inline std::vector<Bytes> TakeFrames(Engine& engine, Instant now) {
  std::vector<Bytes> frames;
  for (auto frame = engine.NextFrame(now); !frame.empty(); frame = engine.NextFrame(now))
    frames.emplace_back(frame.begin(), frame.end());
  return frames;
}

// Two engines and a wire that delivers at once, unless `drop` says otherwise.
class EnginePair {
 public:
  static EngineConfig ResponderOf(EngineConfig config) {
    config.role = Role::kResponder;
    return config;
  }

  explicit EnginePair(const EngineConfig& config)
      : initiator(config), responder(ResponderOf(config)) {}
  EnginePair(const EngineConfig& first, const EngineConfig& second)
      : initiator(first), responder(ResponderOf(second)) {}

  // Carries frames both ways until there are none. Messages go to the two lists.
  void Exchange() {
    bool moved = true;
    while (moved) {
      moved = Carry(initiator, responder, &at_responder);
      moved = Carry(responder, initiator, &at_initiator) || moved;
    }
  }

  // Lets time pass until `until`, waking the engines at their deadlines.
  void RunUntil(Instant until) {
    Exchange();
    for (;;) {
      const Instant next = std::min(initiator.next_deadline(), responder.next_deadline());
      if (next > until) break;
      now = std::max(now, next);
      if (initiator.next_deadline() <= now) initiator.OnDeadline(now);
      if (responder.next_deadline() <= now) responder.OnDeadline(now);
      Exchange();
    }
    now = until;
  }

  void Connect() {
    initiator.Open(now);
    RunUntil(now + Duration::Milliseconds(5));
  }

  Engine initiator;
  Engine responder;
  Instant now = At(1000);
  std::vector<Received> at_initiator;
  std::vector<Received> at_responder;
  // Sees every frame; true loses it.
  std::function<bool(const Engine& from, const Bytes& frame)> drop;

 private:
  bool Carry(Engine& from, Engine& to, std::vector<Received>* taken) {
    const auto frames = TakeFrames(from, now);
    for (const Bytes& frame : frames) {
      if (drop && drop(from, frame)) continue;
      to.OnFrame(now, frame);
      for (Received& message : TakeMessages(to)) taken->push_back(std::move(message));
    }
    return !frames.empty();
  }
};

}  // namespace oxmem::tloe

#endif  // TESTS_OXMEM_TLOE_ENGINE_PAIR_H_
