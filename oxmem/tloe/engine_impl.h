#ifndef OXMEM_TLOE_ENGINE_IMPL_H_
#define OXMEM_TLOE_ENGINE_IMPL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "oxmem/tloe/ack_schedule.h"
#include "oxmem/tloe/answer_numbers.h"
#include "oxmem/tloe/config.h"
#include "oxmem/tloe/credits.h"
#include "oxmem/tloe/engine.h"
#include "oxmem/tloe/frame.h"
#include "oxmem/tloe/long_frames.h"
#include "oxmem/tloe/peer_traits.h"
#include "oxmem/tloe/receive_buffer.h"
#include "oxmem/tloe/receive_window.h"
#include "oxmem/tloe/restart_suspicion.h"
#include "oxmem/tloe/round_trip.h"
#include "oxmem/tloe/send_window.h"
#include "oxmem/tloe/stats.h"

namespace oxmem::tloe {

// Frames of 1.0.3 that nobody acknowledges for their own sake, outstanding at most. They take half
// of the window at most too, so that frames with content always find room.
inline constexpr std::size_t kMostUnawaited = 64;
inline constexpr std::size_t kLeastWindowFrames = 8;

// What a message that cannot be enqueued waits for.
enum class Room : uint8_t { kNothing, kCredits, kWindow };

// The parts of a connection and how they act together. Three files implement it: engine.cc the
// connection's life, engine_receive.cc what a frame does, engine_send.cc what goes out.
struct Engine::Impl {
  explicit Impl(const EngineConfig& configuration);

  // engine.cc
  void Reset();
  void Open(Instant now);
  void Close(Instant now);
  void OnDeadline(Instant now);
  void OnResendTimeout(Instant now);
  void OnTimeout(bool peer_is_there, int most_doublings);
  void Probe(Instant now);
  Instant ProbeDeadline() const;
  Instant NextDeadline() const;
  void Fail(Failure why);
  uint64_t OldestAwaited() const;
  bool MayBeTooLong(const SentFrame& frame) const;
  bool IsTooLong(Instant now, const SentFrame& frame) const;
  int DoublingsAfter(LongFrameSuspicion::Round round, const SentFrame& oldest) const;
  void LimitFrames(std::size_t bytes);
  void UseProfile(PeerProfile chosen);
  void BecomeOpen(Instant now);
  bool is_11() const { return config.protocol == Protocol::k11; }
  SequenceNumber first_number() const { return SequenceNumber::FromWire(config.initial_sequence); }

  // engine_receive.cc
  FrameVerdict OnFrame(Instant now, std::span<const std::byte> frame);
  bool IsBeginning(const FrameHeader& header) const;
  void RecogniseInitiator(const FrameHeader& open);
  FrameVerdict OnFrameOfChannel(Instant now, const ParsedFrame& frame);
  bool SpeaksOtherProtocol(const FrameHeader& header) const;
  bool IsMeant(const ParsedFrame& frame);
  FrameVerdict OnFrameIdle(Instant now, const ParsedFrame& frame);
  FrameVerdict OnFrameConnected(Instant now, const ParsedFrame& frame);
  FrameVerdict OnOpen(Instant now, const ParsedFrame& frame);
  FrameVerdict OnCloseFrame(const FrameHeader& header);
  FrameVerdict Accept(Instant now, const ParsedFrame& frame, std::size_t count);
  bool Store(const ParsedFrame& frame, std::size_t count);
  void OnSignOfLife(Instant now);
  FrameVerdict OnSequenced(Instant now, const ParsedFrame& frame);
  bool IsAnswerToOpen(const FrameHeader& header) const;
  void OnOpeningFrame(Instant now, const ParsedFrame& frame);
  void FinishOpening(Instant now);
  void LearnFromOpening(Instant now, const ParsedFrame& frame);
  void DecideProfile(Instant now, PeerProfile decided);
  bool OnAcknowledgement(Instant now, const FrameHeader& header);
  bool OnSingleAcknowledgement(Instant now, const FrameHeader& header);
  void OnProgress(Instant now, uint64_t last_index);
  void OnNak(Instant now);
  void ScheduleAck(Instant now, const ParsedFrame& frame);
  void OnGap(SequenceNumber number);
  const tilelink::DecodedMessage* PeekMessage();
  const tilelink::DecodedMessage* NextMessage();
  void ReleaseCurrent();
  void Retain();

  // engine_send.cc
  bool CanEnqueue(tilelink::Channel channel, std::size_t flits);
  bool WaitFor(Room room);
  bool Enqueue(const tilelink::Message& message, const tilelink::MemoryPayload& payload);
  bool PrepareFrame(std::size_t flits);
  void CloseFrame();
  bool BuildEmptyFrame(FrameType type);
  void BuildOpeningGrants();
  std::span<const std::byte> NextFrame(Instant now);
  std::span<const std::byte> EmitNew(Instant now);
  std::span<const std::byte> EmitResend(Instant now);
  std::span<const std::byte> EmitAgain(Instant now, uint64_t index);
  std::span<const std::byte> EmitControl(FrameType type);
  std::span<const std::byte> EmitControlFrame(const FrameHeader& header);
  std::span<const std::byte> EmitProbe();
  std::span<const std::byte> EmitAsk();
  std::span<const std::byte> EmitDuplicate(SequenceNumber number);
  std::span<const std::byte> EmitLoneAck(Instant now);
  std::span<const std::byte> EmitAckInRecovery(Instant now);
  void WriteHeader(const SentFrame& frame, uint64_t index);
  void CountSent(std::size_t bytes);
  bool WantsCreditFrame(Instant now);
  Duration AckDelay() const;
  Duration ResendTimeout() const;
  Instant ResendDeadline() const;
  void StartResend(Instant now);
  void ForgetUnawaited();
  Instant ForgetDeadline() const;

  EngineConfig config;
  PeerProfile profile;
  const PeerTraits* traits;
  State state = State::kIdle;
  Failure failure = Failure::kNone;
  EngineStats stats;

  // Sending.
  SendWindow window;
  FrameBuilder builder;
  bool building = false;
  uint32_t built_messages = 0;
  std::span<std::byte> last_message;  // that was enqueued, in the window
  std::size_t max_frame_flits;
  SendCredits send_credits;
  RoundTrip round_trip;
  Instant resend_base;       // the timeout counts from here
  uint64_t awaited_end = 0;  // one past the last frame sent that waits for an acknowledgement
  int timeouts = 0;          // since the last progress, with nothing heard from the peer
  int nak_rounds = 0;        // resends that NAKs have caused since then
  // From the second timeout in a row on only the oldest frame is sent again and nothing new, until
  // an acknowledgement says how to go on.
  bool recovering = false;
  uint64_t recovery_end = 0;  // one past what is sent again then
  LongFrameSuspicion too_long;
  bool ask_wanted = false;  // a short frame that the peer answers is to be sent
  std::size_t lost_frame_bytes = 0;
  Room waits_for = Room::kNothing;  // a message, since the last one that was enqueued
  Instant heard_at;                 // the last frame that fitted
  bool probing = false;             // a sign of life is awaited
  bool probe_wanted = false;        // a probe is to be sent
  Instant probe_base;               // its timeout counts from here
  AnswerNumbers answer_numbers;     // of requests, for peers that match answers by them

  // Receiving.
  ReceiveWindow receive;
  ReceiveCredits receive_credits;
  AckSchedule ack;
  Instant credit_deadline = Instant::Never();
  std::size_t longest_received = 0;  // any frame in bytes, whatever became of it
  bool gap_open = false;
  SequenceNumber last_gap;
  bool malformed_seen = false;  // since the last frame in order, of this number and these bytes:
  SequenceNumber malformed_number;
  uint64_t malformed_hash = 0;
  RestartSuspicion suspicion;

  // Messages: first those in `retained`, then those of the frame parsed last.
  MessageArray messages;
  std::size_t message_count = 0;
  std::size_t next_message = 0;
  ReceiveBuffer retained;
  tilelink::DecodedMessage retained_message;
  bool retained_peeked = false;  // retained_message is the front of `retained`
  bool has_current = false;      // handed out and not given back
  tilelink::Channel current_channel = tilelink::Channel::kA;
  uint32_t current_flits = 0;

  // Opening and closing.
  bool answered = false;   // the peer answered the opening; credits are exchanged
  bool undecided = false;  // kAuto: the answer fits more than one profile
  Instant open_deadline;
  Instant opened_at;
  int open_repeats = 0;  // OPEN frames over a live connection since its last frame in order
  Instant first_repeat;
  bool close_wanted = false;  // a CLOSE frame is to be sent
  Instant close_deadline = Instant::Never();
  int close_tries = 0;

  // Frames that are not kept: lone acknowledgements, closes. Several, so that those handed out and
  // not sent yet stay.
  std::array<std::array<std::byte, kMinFrameBytes>, 4> control;
  std::size_t next_control = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_ENGINE_IMPL_H_
