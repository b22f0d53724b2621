#ifndef RDMA_NEX_QP_RESPONDER_H_
#define RDMA_NEX_QP_RESPONDER_H_

#include <array>
#include <cstdint>
#include <vector>

#include "rdma/nex/qp/frames.h"

namespace oxmem::nex {

// The receiving half of a connected queue pair: executes requests strictly in order and answers
// them in order. Pure: no I/O, no clock.
class Responder {
 public:
  static constexpr std::uint32_t kMaxAnswers = 256;
  static constexpr std::uint32_t kMaxReads = 128;
  // So many requests or bytes may be done before the acknowledgement has to go out at once.
  static constexpr std::uint32_t kAckEvery = 32;
  static constexpr std::uint64_t kAckBytes = std::uint64_t{4} << 20;

  Responder(const QpIdentity& identity, RegionTable* regions, ReceiveSource* receives,
            SharedQueueFinder* finder, std::vector<Completion>* out);

  void set_access(std::uint32_t access) { access_ = access; }
  // Without it reads and atomics are refused (max_dest_rd_atomic 0).
  void set_serves_reads(bool serves) { serves_reads_ = serves; }
  void set_rnr_timer(std::uint8_t code) { rnr_timer_ = code; }

  Verdict OnRequest(const FrameHeader& header);
  const Payload& request_payload() const { return payload_; }
  Verdict OnRequestPayload();  // all of it is placed (or drained)
  Verdict OnPayloadRefused();  // its memory is no longer registered, or no longer there

  // The peer is there: it learns how many receives it may count on.
  void OnAttached();
  // What Await of the receives, or a Take that found none, was waiting for.
  void OnReceiveAvailable();

  // Writes the next answer. Acknowledgements go out only with `acknowledge`.
  bool Stage(OutFrame* frame, bool acknowledge);
  bool has_output() const { return HasAnswers() || ready_due_ || ack_due(); }
  bool ack_due() const { return ack_due_ || credits_due_; }
  bool ack_urgent() const { return unacked_ >= kAckEvery || unacked_bytes_ >= kAckBytes; }

  // A message is half received into a receive request: it completes with this status.
  void FailCurrent(ibv_wc_status status);
  void DropAnswers();
  void Reset();
  bool denied() const { return denied_; }  // a NAK is on its way to the peer
  bool denied_access() const { return denied_access_; }

 private:
  struct Answer {
    FrameHeader header;
    ibv_sge range{};
    std::uint32_t domain = 0;
    bool has_payload = false;
  };

  bool HasAnswers() const { return answers_head_ != answers_tail_; }
  void Push(const Answer& answer);
  void Acknowledged();  // what goes out now acknowledges everything that is done
  Verdict Deny(NakCode code);
  Verdict DenyReceive(NakCode code, ibv_wc_status status);
  bool RemotePayload(std::uint64_t address, std::uint32_t key, std::uint32_t length,
                     std::uint32_t access);
  // The domain that remote keys must belong to: XRC takes that of the receive queue it names.
  bool FindDomain(std::uint32_t* domain);
  Verdict TakeReceive(bool* taken);
  Verdict OnSend();
  Verdict OnWrite();
  Verdict OnRead();
  Verdict OnAtomic();
  void CompleteReceive(ibv_wc_status status);
  // The peer may send as many messages as receives were used and are posted.
  std::uint32_t CreditLimit();
  bool gives_credits() const {
    return identity_.reliable && !identity_.shared_receives && identity_.type == IBV_QPT_RC;
  }

  const QpIdentity identity_;
  RegionTable* const regions_;
  ReceiveSource* const receives_;
  SharedQueueFinder* const finder_;
  std::vector<Completion>* const out_;
  std::uint32_t access_ = 0;
  bool serves_reads_ = true;
  std::uint8_t rnr_timer_ = 0;

  std::uint32_t expected_ = 0;  // sequence of the next request
  std::uint32_t ack_ = 0;       // the last executed one, when ack_due_
  std::uint32_t unacked_ = 0;
  std::uint64_t unacked_bytes_ = 0;
  bool ack_due_ = false;
  bool discarding_ = false;  // until the peer comes back to expected_
  bool ready_due_ = false;   // there is a receive again, and nobody told the peer
  bool ready_sent_ = false;
  bool denied_ = false;
  bool denied_access_ = false;  // for a key, an address or a range; else the request made no sense
  std::uint32_t receives_used_ = 0;
  std::uint32_t credits_told_ = 0;
  bool credits_due_ = false;
  bool credits_announced_ = false;

  FrameHeader current_;
  ReceiveSource* source_ = nullptr;
  ReceiveWork work_;
  bool has_work_ = false;
  bool drop_current_ = false;  // unreliable: nothing comes of this message
  Payload payload_;
  ibv_sge remote_{};
  std::array<Answer, kMaxAnswers> answers_;
  std::uint32_t answers_head_ = 0;
  std::uint32_t answers_tail_ = 0;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_QP_RESPONDER_H_
