#ifndef OXMEM_TLOE_ENGINE_H_
#define OXMEM_TLOE_ENGINE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "oxmem/tilelink/codec.h"
#include "oxmem/tilelink/message.h"
#include "oxmem/tloe/config.h"
#include "oxmem/tloe/stats.h"
#include "transport/base/clock.h"

namespace oxmem::tloe {

// The state of a connection, as its user sees it:
//
//   kIdle ── Open / first frame ──► kOpening ── handshake done ──► kOpen ── Close ──► kClosing
//     ▲                                │ no answer                  │ resends exhausted,  │
//     answered, └──────────── Reset ─────────────┴── kFailed ◄────────────────┘ peer restarted or
//     │ or timed out
//                                                                     closed, violation   ▼
//                                                                                      kClosed
enum class State : uint8_t { kIdle, kOpening, kOpen, kClosing, kClosed, kFailed };

// Why a connection is kFailed.
enum class Failure : uint8_t {
  kNone,
  kNoAnswer,        // to the opening, or to resends
  kPeerClosed,      // the peer sent a close
  kPeerRestarted,   // the peer has no memory of this connection, or began a new one
  kOtherProtocol,   // the peer speaks the other one of the two protocols, and not this one
  kLongFramesLost,  // frames of lost_frame_bytes() never arrive, shorter ones do
  kViolation,       // the peer broke the protocol beyond repair
};

// What OnFrame made of a frame.
enum class FrameVerdict : uint8_t {
  kAccepted,  // in order; its messages come out of NextMessage
  kAckOnly,   // nothing but an acknowledgement or credits
  kDuplicate,
  kGap,
  kMalformed,  // dropped; a message that cannot be decoded is taken when it comes a second time
  kIgnored,    // no connection and it does not begin one, or another virtual channel
  kNewPeer,    // the peer opened a new connection over this one: state is kFailed, kPeerRestarted.
             // The owner drops what belonged to the old one, calls Reset and feeds the frame again.
};

// One TLoE connection on one virtual channel: sequence numbers, acknowledgements, resends, credits,
// packing. Bytes in, bytes out; it has no socket, thread or clock, allocates nothing after its
// construction, and is used by one thread.
//
// The owner's loop:
//   for each frame received: OnFrame, then NextMessage until it returns nothing
//   at next_deadline: OnDeadline
//   any time: Enqueue messages
//   afterwards: NextFrame until it returns nothing, and send what came out
//
// Messages of one TileLink channel are delivered in the order they were enqueued, each once.
class Engine {
 public:
  explicit Engine(const EngineConfig& config);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const EngineConfig& config() const;
  State state() const;
  Failure failure() const;
  // What kAuto turned into; equals the configured profile otherwise.
  PeerProfile peer() const;
  // How data travels on this connection; settled when the state becomes kOpen.
  tilelink::DataOrder data_order() const;
  const EngineStats& stats() const;

  // Initiator: begins the handshake (1.1) or the connection (1.0.3). Legal in kIdle.
  void Open(Instant now);
  // Ends the connection: close is sent and awaited for a moment (1.1), or it just ends (1.0.3).
  void Close(Instant now);
  // Back to kIdle with nothing remembered but the statistics. Frames handed out by NextFrame and
  // payloads handed out by NextMessage are invalid afterwards.
  void Reset();

  // Of the frame that kLongFramesLost is about, until Reset.
  std::size_t lost_frame_bytes() const;
  // Frames begun from now on have at most `bytes` (at least 56), whatever the link takes; for all
  // connections to come.
  void LimitFrames(std::size_t bytes);

  // A frame of the peer: TLoE header to mask, without the Ethernet header. The bytes must stay as
  // they are until NextMessage has returned nothing or Retain was called.
  FrameVerdict OnFrame(Instant now, std::span<const std::byte> frame);

  // The message NextMessage will take, or null: for a user that first makes sure it can answer.
  // Valid until the next call of NextMessage, Retain, OnFrame or Reset.
  const tilelink::DecodedMessage* PeekMessage();

  // The next received message, or null. The pointer and its payload are valid until the next call
  // of NextMessage, Retain, OnFrame or Reset; the message's credits return to the peer with that
  // call.
  const tilelink::DecodedMessage* NextMessage();

  // Copies the messages of the current frame that were not taken into the receive buffer (as large
  // as the credits granted, so they fit), so that the frame's bytes may go. NextMessage goes on
  // with them.
  void Retain();

  // The longest message, in flits, that this peer takes in a frame; a longer one never fits.
  // Settled when the state becomes kOpen.
  std::size_t max_message_flits() const;
  // Whether several messages go into a frame to this peer.
  bool packs_frames() const;
  // log2 of the most data to ask this peer for in one message. Settled at the same time.
  uint8_t largest_answer_size() const;

  // Whether a message of this many flits on this channel could be enqueued now. If not, it waits
  // from now on, as with Enqueue.
  bool CanEnqueue(tilelink::Channel channel, std::size_t flits);

  // Encodes the message into the frame under construction; payload is copied before the return.
  // False, and nothing happened, if the connection is not open, or the peer's credits, the window
  // or the resend buffer have no room for it now. However often it is tried again, that is counted
  // as one wait, and the peer is probed if it lasts.
  bool Enqueue(const tilelink::Message& message, const tilelink::MemoryPayload& payload);

  // Turns the AccessAckData enqueued by the last call into one that is denied and corrupt, for a
  // user that finds out only then that its payload was none. Before any other call.
  void SpoilLast();

  // Makes sure that the peer is still there, for a user that waits for something: when all that was
  // sent is acknowledged a restarted peer would not be noticed otherwise. It asks for a sign of
  // life until one comes or the connection fails, like with any resend. The engine does it by
  // itself while messages wait for credits.
  void Probe(Instant now);

  // The next frame to send, empty if there is none: new ones, resends, acknowledgements. The bytes
  // stay valid until the next OnFrame, OnDeadline or Reset, so that several can be sent with one
  // call.
  std::span<const std::byte> NextFrame(Instant now);

  // OnDeadline must be called, and NextFrame after it, no later than this.
  Instant next_deadline() const;
  void OnDeadline(Instant now);

  // Nothing enqueued is unacknowledged.
  bool idle() const;
  // When the peer last said something that fits this connection.
  Instant last_sign_of_life() const;
  // In bytes, of the frames of this connection that came from the peer, also those that came out of
  // turn and were dropped.
  std::size_t longest_frame_received() const;
  // The smoothed round trip; zero before the first sample.
  Duration round_trip() const;
  // The largest log2 size whose data still fits one frame of max_frame_bytes.
  static uint8_t LargestDataSize(std::size_t max_frame_bytes);

  // For a responder that has no connection to the sender of `frame`: what to send back so that the
  // sender notices at once and not when its resends are exhausted. Writes it to `to` and returns
  // it; empty if nothing is to be answered.
  static constexpr std::size_t kRefusalBytes = 56;
  static std::span<const std::byte> RefusalFor(const EngineConfig& config,
                                               std::span<const std::byte> frame,
                                               std::span<std::byte, kRefusalBytes> to);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_ENGINE_H_
