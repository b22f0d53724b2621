#ifndef RDMA_NEX_QP_QUEUE_PAIR_H_
#define RDMA_NEX_QP_QUEUE_PAIR_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "rdma/nex/qp/requester.h"
#include "rdma/nex/qp/responder.h"

namespace oxmem::nex {

// One connected queue pair (RC, UC or XRC) as a pure machine: posted requests, bytes of its
// stream and moments go in; bytes, completions and a deadline come out. It knows no socket,
// thread or clock. Not thread-safe: its owner locks.
//
// The verbs states (RESET … ERR) are the caller's; the machine knows only:
//
//   idle --Attach--> attached --Detach (peer gone)--> gone
//     | ^--Detach, untouched--'                            |
//     \________________ Fail (local or remote error) ____/--> failed --Reset--> idle
//
// A stream is untouched as long as nothing of a program went over it, in either direction. Its
// end is none of the pair: on a device nothing was sent either, so the next stream begins where
// this one did.
//
// A request of an unreliable queue pair that is wrong on this side stops sending only: what is
// posted is flushed until ResumeSending, and receiving goes on (InfiniBand 10.3.1, SQE).
class QueuePair {
 public:
  struct Parameters {
    Requester::Limits requester;
    std::uint32_t access = 0;
    bool serves_reads = true;  // of the peer, and its atomics
    std::uint8_t rnr_timer = 0;
    // How long a request may wait for a peer that is not there; 0: for ever.
    Duration peer_timeout;
  };

  QueuePair(const QpIdentity& identity, RegionTable* regions, ReceiveSource* receives,
            SharedQueueFinder* finder);

  void Configure(const Parameters& parameters);

  // Verbs side.
  int Post(const ibv_send_wr& wr, const BindWork* bind, Instant now);
  // Whether a read or write may be executed at once by other means: nothing posted before it is
  // still to be answered, so the order of requests stays.
  bool idle_for_direct() const {
    return attached_ && sending_ && !failed_ && identity_.type == IBV_QPT_RC && requester_.idle();
  }
  int Check(const ibv_send_wr& wr) const { return requester_.Check(wr); }
  std::uint32_t unfinished() const { return requester_.unfinished(); }  // requests
  void CompleteDirect(const ibv_send_wr& wr, std::uint32_t length) {
    Touch();
    requester_.CompleteDirect(wr, length);
  }
  const QpIdentity& identity() const { return identity_; }
  // What the peer may do by other means than requests, IBV_ACCESS_*.
  std::uint32_t direct_access() const {
    constexpr std::uint32_t kReads = IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
    return parameters_.serves_reads ? parameters_.access : parameters_.access & ~kReads;
  }
  void OnReceiveAvailable() { responder_.OnReceiveAvailable(); }
  // Off until RTS and in SQD: then nothing new is sent, and what was begun is completed.
  void SetSending(bool allowed, Instant now);
  void Fail();           // the verbs state became ERR: flush
  void ResumeSending();  // from SQE to RTS
  void Reset();

  // Stream side. Greetings are done before Attach. What is unanswered when the stream ends fails
  // when its retries would have run out, or after kLongestLoss: a device does not know at once
  // either, and the answers that other queue pairs have got meanwhile are completed before that.
  static constexpr Duration kLongestLoss = Duration::Milliseconds(100);
  void Attach();
  void Detach(Instant now);
  bool attached() const { return attached_; }
  bool untouched() const { return !touched_ && header_have_ == 0; }
  void Touch() { touched_ = true; }  // something went by other means than the stream
  // The machine has been attached since it was made or reset.
  bool met() const { return met_; }
  // Requests would be written if there were room.
  bool wants_to_send() const { return requester_.HasWorkToStage(sending_); }
  bool has_requests() const { return !requester_.idle(); }
  bool gone() const { return gone_; }
  bool failed() const { return failed_; }
  // The stream should be closed once everything is written (false while a NAK is not yet read).
  bool wants_close() const { return failed_ && !responder_.denied(); }
  // Takes bytes of the stream; false: the peer broke the protocol, close.
  bool OnBytes(std::span<const std::byte> bytes, Instant now);
  // Where the next bytes of the stream may be put directly, at most `limit` of them. Empty when
  // a header is expected or the payload is dropped.
  void DirectTargets(std::uint64_t limit, IoBatch* batch);
  bool OnDirect(std::size_t bytes, Instant now);
  // The system could not write there: the program has given the memory back to it.
  void OnDirectRefused();
  std::uint64_t payload_left() const { return payload_left_; }
  std::uint64_t payload_size() const { return payload_done_ + payload_left_; }
  // How much has come in over time.
  std::uint64_t bytes_in() const { return bytes_in_; }
  std::uint64_t bytes_out() const { return bytes_out_; }

  // The bytes to write next; nothing: batch->bytes is 0. Acknowledgements alone wait for
  // `acknowledge`, or until many are due, so that they can travel with something else.
  // False: memory of a half-written message is gone, the stream must be closed.
  bool FillOutput(IoBatch* batch, bool acknowledge);
  // The system could not read what comes first in it. False: the stream must be closed.
  bool OnOutputRefused();
  void OnWritten(std::size_t bytes);
  // Nothing waits to be written or delivered.
  bool quiet() const {
    return out_.empty() && completions_.empty() && !responder_.has_output() && !wants_to_send() &&
           !self_failed_ && !send_failure_new_;
  }
  bool ack_due() const { return responder_.ack_due() && attached_ && !failed_; }
  bool ack_urgent() const { return responder_.ack_urgent(); }
  // What is posted may wait a moment for more to go out with it: answers that are certain to come
  // will give the occasion.
  bool may_hold() const { return attached_ && sending_ && out_.empty() && requester_.may_hold(); }

  Instant deadline() const;
  void OnDeadline(Instant now);

  // Filled by every call above; the owner takes them out in order.
  std::vector<Completion>& completions() { return completions_; }
  // True once after the machine failed by itself (not through Fail).
  bool TakeSelfFailed() { return std::exchange(self_failed_, false); }
  // True once after sending stopped by itself.
  bool TakeSendFailed() { return std::exchange(send_failure_new_, false); }
  // The peer did something it may not (for the asynchronous event); once.
  bool TakeAccessError() { return std::exchange(access_error_, false); }
  bool access_refused() const { return responder_.denied_access(); }
  // True once, after the first message of the peer.
  bool TakePeerSeen() { return peer_seen_ && !std::exchange(peer_told_, true); }
  Duration peer_timeout() const { return parameters_.peer_timeout; }
  bool drained() const { return !requester_.under_way(); }  // nothing that was begun is left
  bool at_rest() const { return requester_.idle() && out_.empty(); }

 private:
  enum class Sink : std::uint8_t { kHeader, kRequest, kResponse, kDrain };

  bool Handle(Verdict verdict);
  bool OnHeader(Instant now);
  bool PayloadDone();
  void PlacePayload(std::span<const std::byte> bytes);
  void SelfFail();
  void FailSending();         // by what the requester found
  void CompleteUnreliable();  // nobody will know what became of it
  void RunLocals();           // requests that need no peer
  void AwaitLoss(Instant now);
  void AwaitPeer(Instant now);
  void StageFrames(bool acknowledge);

  const QpIdentity identity_;
  RegionTable* const regions_;
  std::vector<Completion> completions_;
  Requester requester_;
  Responder responder_;
  OutQueue out_;
  Parameters parameters_;

  bool attached_ = false;
  bool met_ = false;
  bool touched_ = false;
  bool gone_ = false;
  bool failed_ = false;
  bool sending_ = false;
  bool stuck_ = false;  // nothing more can be written, and there are answers to come
  bool self_failed_ = false;
  bool send_failed_ = false;
  bool send_failure_new_ = false;
  bool access_error_ = false;
  bool peer_seen_ = false;
  bool peer_told_ = false;
  Instant peer_deadline_ = Instant::Never();
  // What peer_deadline_ was when the peer came: one that comes and goes gets no more time.
  Instant patient_until_ = Instant::Never();

  Sink sink_ = Sink::kHeader;
  Sink drain_of_ = Sink::kHeader;
  std::array<std::byte, kHeaderBytes> header_;
  std::size_t header_have_ = 0;
  std::uint64_t payload_done_ = 0;
  std::uint64_t payload_left_ = 0;
  std::uint64_t bytes_in_ = 0;
  std::uint64_t bytes_out_ = 0;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_QP_QUEUE_PAIR_H_
