#ifndef OXMEM_CHANNEL_TLOE_CHANNEL_H_
#define OXMEM_CHANNEL_TLOE_CHANNEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "oxmem/channel/completion_ring.h"
#include "oxmem/channel/options.h"
#include "oxmem/channel/request_table.h"
#include "oxmem/channel/source_ids.h"
#include "oxmem/channel/split.h"
#include "oxmem/link/link.h"
#include "oxmem/tloe/engine.h"
#include "transport/api/channel.h"
#include "transport/base/log.h"

namespace oxmem::channel {

// Memory behind an OmniXtend endpoint: the requester. Requests are split into naturally aligned
// TileLink messages, answers are matched by TileLink source, and the protocol engine and the link
// are driven by the owner's Submit and Poll: no thread of its own, no hand-over.
//
//   connected ── engine fails ──► lost ── Open answered ──► connected
//                                  │ ▲
//                                  └─┘ no answer: again, after a pause that doubles up to a second
//
// Nobody tells the MTU of the peer or of the way to it. Frames start as long as the link takes
// them; when long ones get lost and short ones do not, or the peer refuses to answer so much in a
// frame, they are shorter from then on (docs/adr/0006).
//
// On loss every request starts again from its first byte, but for atomics that were sent, which end
// with kPeerLost.
class TloeChannel final : public transport::Channel {
 public:
  // Opens the connection and waits for it, at most options.connect_timeout.
  static absl::StatusOr<std::unique_ptr<TloeChannel>> Connect(std::unique_ptr<link::Link> link,
                                                              const link::Address& peer,
                                                              Options options);

  // Without waiting: for owners with another clock than the machine's. Drive it with PollAt.
  static absl::StatusOr<std::unique_ptr<TloeChannel>> Start(std::unique_ptr<link::Link> link,
                                                            const link::Address& peer,
                                                            Options options, Instant now);
  ~TloeChannel() override;

  std::size_t Submit(std::span<const transport::Request> requests) override;
  std::size_t Poll(std::span<transport::Completion> completions) override;
  bool Arm() override;
  int event_fd() const override { return link_->fd(); }
  Instant next_deadline() const override;
  void Close() override;
  absl::StatusOr<transport::MemoryHandle> Register(std::span<std::byte> memory) override;
  const transport::Limits& limits() const override { return limits_; }
  const transport::ChannelStats& stats() const override { return stats_; }
  const std::string& name() const override { return name_; }
  absl::Status health() const override;

  // Submit and Poll with the caller's clock.
  std::size_t SubmitAt(Instant now, std::span<const transport::Request> requests);
  std::size_t PollAt(Instant now, std::span<transport::Completion> completions);
  void CloseAt(Instant now);

  bool connected() const { return engine_.state() == tloe::State::kOpen; }
  const tloe::Engine& engine() const { return engine_; }
  const link::Link& link() const { return *link_; }
  // log2 of the data of the largest message sent.
  uint8_t largest_message_size() const { return largest_message_size_; }

 private:
  TloeChannel(std::unique_ptr<link::Link> link, const link::Address& peer, Options options,
              Instant now);

  // Receiving (tloe_channel.cc).
  // False if there was none.
  bool ReceiveFrames(Instant now);
  void OnMessage(Instant now, const tilelink::DecodedMessage& message);
  void OnAnswer(Instant now, uint32_t request_index, const MessageSlot& slot,
                const tilelink::DecodedMessage& answer);
  void CopyAnswer(const transport::Request& request, const MessageSlot& slot,
                  const tilelink::DecodedMessage& answer, std::span<std::byte> to) const;

  // Sending (tloe_channel_send.cc).
  void SendRequests();
  bool SendNextMessage(uint32_t request_index);
  void SendFrames(Instant now);
  // After whatever may have changed something: sends what there is to send, and settles when to
  // look again.
  void Advance(Instant now);

  // Ends and deadlines (tloe_channel.cc).
  void Finish(Instant now, uint32_t request_index, transport::Code code);
  void FinishAnswered(Instant now, uint32_t request_index);
  void FinishFlushes(Instant now);
  void AddCompletion(const transport::Request& request, transport::Code code, uint64_t old_value);
  void CountOutcome(const transport::Request& request, transport::Code code, Duration latency);
  void ExpireRequests(Instant now);
  void CountInFlight();
  Instant DueAt() const;

  // The message lists of requests.
  void LinkMessage(uint32_t request_index, uint32_t message_index);
  void UnlinkMessage(uint32_t message_index);
  void ReleaseMessages(uint32_t request_index);

  // Loss and return of the peer (tloe_channel_connection.cc).
  void MaintainConnection(Instant now);
  void OnLost(Instant now, tloe::Failure why);
  void LogLoss(Instant now, tloe::Failure why);
  void OnConnected(Instant now);
  void LimitMessages();
  void LimitFrames(std::size_t frame_bytes);
  bool AskForLess(uint32_t request_index, uint8_t refused_size);
  void ShortenFrames(std::size_t lost_bytes, const char* which);
  void LookForAnswers(Instant now);
  std::size_t TooLongAnswer();
  uint8_t LargestReadOf(const ActiveRequest& active) const;
  void OnShorterFrames(const ActiveRequest& active, const MessageSlot& slot);
  void StartAgain(Instant now);
  void CopyEngineStats();

  std::unique_ptr<link::Link> link_;
  link::Address peer_;
  Options options_;
  transport::Limits limits_;
  std::string name_;
  tloe::Engine engine_;
  uint8_t wanted_message_size_;
  uint8_t largest_message_size_;
  uint8_t largest_read_size_;
  FrameFill write_fill_;
  FrameFill read_fill_;

  RequestTable requests_;
  SourceIds messages_;
  CompletionRing completions_;
  std::vector<link::OutgoingFrame> outgoing_;
  std::vector<link::IncomingFrame> incoming_;

  bool closed_ = false;
  bool was_connected_ = false;
  bool lost_ = false;
  bool loss_said_ = false;  // the last one, in the log
  Instant lost_since_;
  Instant connected_at_;
  Instant last_frame_;          // of the peer
  Instant last_answer_;         // that somebody waited for
  uint8_t longest_answer_ = 0;  // log2 of the most data that ever came in one
  Instant probed_at_;           // as no answer came
  int prompt_signs_ = 0;        // that came soon after a probe, one after the other
  Instant due_;                 // nothing has to be done before, unless a frame comes
  Instant look_at_ = Instant::Never();
  Instant reopen_at_ = Instant::Never();
  Duration reopen_pause_;
  tloe::Failure last_failure_ = tloe::Failure::kNone;
  absl::Status link_status_;
  LogLimiter timeout_log_;
  LogLimiter loss_log_;
  transport::ChannelStats stats_;
};

}  // namespace oxmem::channel

#endif  // OXMEM_CHANNEL_TLOE_CHANNEL_H_
