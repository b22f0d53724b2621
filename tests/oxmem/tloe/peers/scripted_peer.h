#ifndef TESTS_OXMEM_TLOE_PEERS_SCRIPTED_PEER_H_
#define TESTS_OXMEM_TLOE_PEERS_SCRIPTED_PEER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "oxmem/tilelink/codec.h"
#include "oxmem/tloe/engine.h"
#include "oxmem/tloe/frame.h"
#include "tests/oxmem/tloe/engine_pair.h"
#include "transport/base/byte_order.h"

// Other people's endpoints, reduced to what they do on the wire. They know frames and messages, and
// nothing of the engine they talk to.

namespace oxmem::tloe {

class ScriptedPeer {
 public:
  ScriptedPeer() = default;
  virtual ~ScriptedPeer() = default;
  ScriptedPeer(const ScriptedPeer&) = delete;
  ScriptedPeer& operator=(const ScriptedPeer&) = delete;

  void Receive(Instant now, std::span<const std::byte> frame) {
    const auto parsed = ParseFrame(frame);
    if (!parsed) return;
    MessageArray messages;
    const MessageCount count = DecodeMessages(*parsed, &messages);
    if (!count.all_well_formed()) return;
    OnFrame(now, parsed->header, std::span(messages).first(count.messages));
  }
  virtual void OnDeadline(Instant) {}
  virtual Instant next_deadline() const { return Instant::Never(); }

  std::vector<Bytes> TakeOutbox() { return std::exchange(outbox_, {}); }

 protected:
  using Messages = std::span<const tilelink::DecodedMessage>;
  virtual void OnFrame(Instant now, const FrameHeader& header, Messages messages) = 0;

  // A frame of these words between header and mask, padded to five.
  void Send(const FrameHeader& header, std::vector<std::byte> flits = {}, uint64_t mask = 0) {
    flits.resize(std::max<std::size_t>(flits.size(), kMinFlits * 8));
    Bytes frame(flits.size() + 16);
    StoreBigEndian(frame.data(), EncodeFrameHeader(header));
    std::copy(flits.begin(), flits.end(), frame.begin() + 8);
    StoreBigEndian(frame.data() + frame.size() - 8, mask);
    outbox_.push_back(std::move(frame));
  }
  void Append(std::vector<std::byte>* flits, uint64_t* mask, const tilelink::Message& message,
              std::span<const std::byte> data, tilelink::DataOrder order) {
    *mask |= uint64_t{1} << flits->size() / 8;
    const std::size_t start = flits->size();
    flits->resize(start + tilelink::FlitsOf(message) * 8);
    tilelink::EncodeMessage(message, {data, {}}, order, std::span(*flits).subspan(start));
  }

 private:
  std::vector<Bytes> outbox_;
};

// Carries frames between an engine and a scripted peer at once, unless `drop` says otherwise, and
// lets virtual time pass.
class ScriptedWire {
 public:
  ScriptedWire(Engine& engine, ScriptedPeer& peer) : engine_(engine), peer_(peer) {}

  void Exchange() {
    for (bool moved = true; moved;) {
      moved = false;
      for (const Bytes& frame : TakeFrames(engine_, now)) {
        moved = true;
        ++engine_frames;
        if (!drop || !drop(true, frame)) peer_.Receive(now, frame);
      }
      for (const Bytes& frame : peer_.TakeOutbox()) {
        moved = true;
        ++peer_frames;
        if (drop && drop(false, frame)) continue;
        const FrameVerdict verdict = engine_.OnFrame(now, frame);
        if (on_verdict) on_verdict(verdict, frame);
        if (on_messages) on_messages();
      }
    }
  }
  void RunUntil(Instant until) {
    Exchange();
    for (;;) {
      const Instant next = std::min(engine_.next_deadline(), peer_.next_deadline());
      if (next > until) break;
      now = std::max(now, next);
      if (engine_.next_deadline() <= now) engine_.OnDeadline(now);
      if (peer_.next_deadline() <= now) peer_.OnDeadline(now);
      Exchange();
      if (on_messages) on_messages();
      Exchange();
    }
    now = until;
  }
  void RunFor(Duration time) { RunUntil(now + time); }

  Instant now = At(1000);
  int engine_frames = 0;
  int peer_frames = 0;
  std::function<bool(bool from_engine, const Bytes& frame)> drop;
  std::function<void(FrameVerdict verdict, const Bytes& frame)> on_verdict;
  std::function<void()> on_messages;  // the engine may have messages to take

 private:
  Engine& engine_;
  ScriptedPeer& peer_;
};

}  // namespace oxmem::tloe

#endif  // TESTS_OXMEM_TLOE_PEERS_SCRIPTED_PEER_H_
