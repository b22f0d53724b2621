#ifndef RDMA_NEX_QP_REQUESTER_H_
#define RDMA_NEX_QP_REQUESTER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "rdma/nex/qp/frames.h"
#include "rdma/nex/qp/send_ring.h"
#include "transport/base/clock.h"

namespace oxmem::nex {

// The sending half of a connected queue pair (RC, UC, XRC): posted requests go out in order,
// stay in the ring until they are answered, and complete in order. Pure: no I/O, no clock.
//
//   posted --stage--> on the wire --ack, response--> completed
//      ^                  |
//      +--receiver-not-ready (go back, wait for ready or count retries)
//
// A peer that gives credits says how many messages it has receives for; what has none waits here.
// With finite retries one such message goes out when nothing else is under way, so that it fails
// as it would on a device.
class Requester {
 public:
  struct Limits {
    std::uint32_t max_reads = 1;   // outstanding reads and atomics
    std::uint8_t rnr_retries = 7;  // 7: without end
  };

  static constexpr std::uint32_t kHoldAnswers = 8;
  static constexpr std::uint32_t kHoldRequests = 8;
  static constexpr std::uint32_t kHoldBytes = 32768;

  Requester(const QpIdentity& identity, RegionTable* regions, std::vector<Completion>* out);

  void set_limits(const Limits& limits) { limits_ = limits; }

  // Takes a request. 0, or the errno ibv_post_send reports; then nothing was taken.
  int Post(const ibv_send_wr& wr, const BindWork* bind = nullptr);

  // 0, or the errno with which Post would refuse the request.
  int Check(const ibv_send_wr& wr) const;
  // The request was executed by other means: everything before it is complete.
  void CompleteDirect(const ibv_send_wr& wr, std::uint32_t length);

  // Writes the next request frame, if one may go out now; unless `begin`, only one that was out
  // before. Without a frame, requests that need none are done up to the first that does. After a
  // local error nothing goes out; the caller looks at failed() afterwards.
  bool Stage(OutFrame* frame, bool begin);
  bool HasWorkToStage(bool begin) const {
    return cursor_ != (begin ? ring_.tail() : begun_) && !waiting_ && !Starves();
  }
  // Few and small requests wait to be staged while enough answers are on their way that do not
  // depend on what the peer's program does.
  bool may_hold() const;
  // Unreliable requests are complete when they are out.
  void OnSent(const OutFrame& frame);

  Verdict OnResponse(const FrameHeader& header, Instant now);
  const Payload& response_payload() const { return response_payload_; }
  Verdict OnResponsePayload();
  Verdict OnResponseRefused();  // the local memory of a read is not registered or there any more

  // A request that was staged cannot be sent. False: it has failed; true: what was sent before it
  // is answered first.
  bool Refuse(std::uint32_t work);

  // Everything staged but not yet sent was forgotten by the caller.
  bool rewound() { return std::exchange(rewound_, false); }

  Instant deadline() const { return waiting_ ? deadline_ : Instant::Never(); }
  Verdict OnDeadline(Instant now);

  // The oldest request fails with `status`; false when there is none.
  bool FailOldest(ibv_wc_status status);
  void Flush();      // everything that is left completes as flushed, in order
  void Resume();     // after a failure that the peer did not see; everything is flushed
  void StartOver();  // with another stream: nothing was sent over the one that ended
  void Reset();
  bool failed() const { return failed_; }
  bool idle() const { return ring_.empty(); }
  bool under_way() const { return ring_.head() != begun_; }  // what has been sent, or was once
  std::uint32_t unfinished() const { return ring_.size(); }
  bool sent_all() const { return cursor_ == ring_.tail(); }
  void CompleteUnreliable();  // the peer is gone and nobody will know

 private:
  void FillOperation(const ibv_send_wr& wr, SendWork* work);
  Payload PayloadOf(const SendWork& work) const;
  void RunLocal(SendWork* work);
  bool Retire();  // completes what can be; false when that ended in an error
  bool AcknowledgeBefore(std::uint32_t sequence);
  void GoBack();
  void Advance();  // the request at the cursor is staged
  void Complete(const SendWork& work, ibv_wc_status status);
  bool Starves() const;  // the next request has to wait for a receive of the peer
  void TakeCredits(const FrameHeader& header);
  Verdict OnNak(const FrameHeader& header);
  Verdict OnReceiverNotReady(const FrameHeader& header, Instant now);
  Verdict FailNotReady();
  Verdict OnReadResponse(const FrameHeader& header);
  Verdict OnAtomicResponse(const FrameHeader& header);

  const QpIdentity identity_;
  RegionTable* const regions_;
  std::vector<Completion>* const out_;
  Limits limits_;
  SendRing ring_;
  std::uint32_t cursor_ = 0;         // index of the next request to stage
  std::uint32_t begun_ = 0;          // index after the last one that was ever staged
  std::uint32_t next_sequence_ = 0;  // for the next posted request
  std::uint32_t sent_ = 0;           // sequence after the last one staged
  std::uint32_t acked_ = 0;          // first sequence that is not answered
  std::uint32_t reads_ = 0;          // outstanding reads and atomics
  std::uint32_t next_receive_ = 0;   // for the next posted request that uses one
  std::uint32_t credit_limit_ = 0;   // the first of these for which the peer has none
  bool limited_ = false;             // the peer gives credits
  Payload response_payload_;
  bool waiting_ = false;  // the receiver was not ready
  std::uint8_t rnr_left_ = 0;
  bool rnr_counting_ = false;
  Duration rnr_delay_;
  Instant deadline_;
  bool rewound_ = false;
  bool failed_ = false;
};

// The delay an RNR timer code stands for (InfiniBand 9.7.5.2.8).
Duration RnrDelay(std::uint8_t code);

}  // namespace oxmem::nex

#endif  // RDMA_NEX_QP_REQUESTER_H_
