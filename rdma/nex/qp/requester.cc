#include "rdma/nex/qp/requester.h"

#include <algorithm>
#include <array>

#include "rdma/nex/program_memory.h"
#include "transport/base/byte_order.h"

namespace oxmem::nex {
namespace {

bool IsRead(const SendWork& work) { return work.opcode == IBV_WR_RDMA_READ; }

bool IsAtomic(const SendWork& work) {
  return work.opcode == IBV_WR_ATOMIC_CMP_AND_SWP || work.opcode == IBV_WR_ATOMIC_FETCH_AND_ADD;
}

bool IsLocal(const SendWork& work) {
  return work.opcode == IBV_WR_LOCAL_INV || work.opcode == IBV_WR_BIND_MW;
}

constexpr std::uint8_t kEndlessRetries = 7;

bool IsAnswered(const SendWork& work) { return IsRead(work) || IsAtomic(work); }

FrameType TypeOf(ibv_wr_opcode opcode) {
  switch (static_cast<int>(opcode)) {
    case IBV_WR_RDMA_WRITE:
      return FrameType::kWrite;
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      return FrameType::kWriteImmediate;
    case IBV_WR_SEND_WITH_IMM:
      return FrameType::kSendImmediate;
    case IBV_WR_SEND_WITH_INV:
      return FrameType::kSendInvalidate;
    case IBV_WR_RDMA_READ:
      return FrameType::kRead;
    case IBV_WR_ATOMIC_CMP_AND_SWP:
      return FrameType::kCompareSwap;
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      return FrameType::kFetchAdd;
    default:
      return FrameType::kSend;
  }
}

ibv_wc_opcode CompletionOpcode(ibv_wr_opcode opcode) {
  switch (static_cast<int>(opcode)) {
    case IBV_WR_RDMA_WRITE:
    case IBV_WR_RDMA_WRITE_WITH_IMM:
      return IBV_WC_RDMA_WRITE;
    case IBV_WR_RDMA_READ:
      return IBV_WC_RDMA_READ;
    case IBV_WR_ATOMIC_CMP_AND_SWP:
      return IBV_WC_COMP_SWAP;
    case IBV_WR_ATOMIC_FETCH_AND_ADD:
      return IBV_WC_FETCH_ADD;
    case IBV_WR_LOCAL_INV:
      return IBV_WC_LOCAL_INV;
    case IBV_WR_BIND_MW:
      return IBV_WC_BIND_MW;
    default:
      return IBV_WC_SEND;
  }
}

ibv_wc_status StatusOf(std::uint16_t nak) {
  switch (static_cast<NakCode>(nak)) {
    case NakCode::kInvalidRequest:
      return IBV_WC_REM_INV_REQ_ERR;
    case NakCode::kRemoteAccess:
      return IBV_WC_REM_ACCESS_ERR;
    case NakCode::kRemoteOperation:
      return IBV_WC_REM_OP_ERR;
  }
  return IBV_WC_REM_OP_ERR;
}

}  // namespace

Duration RnrDelay(std::uint8_t code) {
  static constexpr std::array<std::uint32_t, 32> kMicroseconds = {
      655360, 10,    20,    30,    40,    60,     80,     120,    160,    240,   320,
      480,    640,   960,   1280,  1920,  2560,   3840,   5120,   7680,   10240, 15360,
      20480,  30720, 40960, 61440, 81920, 122880, 163840, 245760, 327680, 491520};
  return Duration::Microseconds(kMicroseconds[code & 31]);
}

Requester::Requester(const QpIdentity& identity, RegionTable* regions, std::vector<Completion>* out)
    : identity_(identity),
      regions_(regions),
      out_(out),
      ring_(identity.send_depth, identity.max_send_sges, identity.max_inline) {}

Payload Requester::PayloadOf(const SendWork& work) const {
  Payload payload;
  payload.sges = work.sges;
  payload.count = work.sge_count;
  payload.copy = work.copied ? work.copy : nullptr;
  payload.use = RegionUse::kLocal;
  payload.access = IsAnswered(work) ? IBV_ACCESS_LOCAL_WRITE : 0;
  payload.domain = identity_.domain;
  payload.qpn = identity_.qpn;
  return payload;
}

void Requester::RunLocal(SendWork* work) {
  bool good;
  if (work->opcode == IBV_WR_LOCAL_INV) {
    good = regions_->Invalidate(work->immediate, identity_.domain, identity_.qpn);
  } else {
    good = regions_->BindWindow(work->bind.window, work->bind.binding, work->bind.key);
  }
  if (good) {
    work->local_done = true;
  } else {
    work->error = IBV_WC_MW_BIND_ERR;
  }
}

bool Requester::Starves() const {
  const SendWork& work = ring_.At(cursor_);
  if (!limited_ || !work.takes_receive) return false;
  if (static_cast<std::int32_t>(work.receive - credit_limit_) < 0) return false;
  return limits_.rnr_retries == kEndlessRetries || sent_ != acked_;
}

void Requester::Advance() {
  if (cursor_++ == begun_) begun_ = cursor_;
}

bool Requester::Stage(OutFrame* frame, bool begin) {
  while (!failed_ && !waiting_ && cursor_ != (begin ? ring_.tail() : begun_)) {
    SendWork& work = ring_.At(cursor_);
    if (work.error != IBV_WC_SUCCESS) return false;
    if (reads_ > 0 && (work.fenced || (IsAnswered(work) && reads_ >= limits_.max_reads))) {
      return false;
    }
    if (IsLocal(work)) {
      if (!work.local_done) RunLocal(&work);
      if (work.error == IBV_WC_SUCCESS) Advance();
      if (!Retire()) return false;
      continue;
    }
    if (frame == nullptr) return false;
    if (IsAtomic(work) && work.length != 8) {
      work.error = IBV_WC_LOC_LEN_ERR;
    } else if (!work.copied &&
               CheckPayload(*regions_, PayloadOf(work), work.length) != MapResult::kOk) {
      work.error = IBV_WC_LOC_PROT_ERR;
    }
    if (work.error != IBV_WC_SUCCESS) {
      Retire();
      return false;
    }
    // Only now: a request that is wrong here fails whether there is a receive for it or not.
    if (Starves()) return false;
    FrameHeader header;
    header.type = TypeOf(work.opcode);
    header.flags = work.solicited ? kFlagSolicited : 0;
    header.sequence = work.sequence;
    header.length = IsAtomic(work) ? 0 : work.length;
    header.immediate = work.immediate;
    header.key = work.key;
    header.srq_number = work.srq_number;
    header.address = work.remote_address;
    header.operand = work.operand;
    header.swap = work.swap;
    EncodeHeader(header, frame->header);
    frame->request = true;
    frame->work = cursor_;
    Advance();
    frame->length = PayloadBytes(header);
    frame->payload = PayloadOf(work);
    sent_ = work.sequence + 1;
    if (IsAnswered(work)) ++reads_;
    return true;
  }
  return false;
}

bool Requester::may_hold() const {
  if (!identity_.reliable || waiting_ || sent_ - acked_ < kHoldAnswers) return false;
  if (ring_.tail() - cursor_ >= kHoldRequests || cursor_ == ring_.head()) return false;
  const SendWork& last = ring_.At(cursor_ - 1);
  if (!IsAnswered(last) && last.opcode != IBV_WR_RDMA_WRITE) return false;
  std::uint32_t bytes = 0;
  for (std::uint32_t i = cursor_; i != ring_.tail(); ++i) {
    const SendWork& work = ring_.At(i);
    if (!IsAnswered(work)) bytes += std::min(work.length, kHoldBytes);
  }
  return bytes < kHoldBytes;
}

void Requester::OnSent(const OutFrame& frame) {
  if (identity_.reliable || ring_.empty()) return;
  acked_ = ring_.At(frame.work).sequence + 1;
  Retire();
}

void Requester::Complete(const SendWork& work, ibv_wc_status status) {
  if (status == IBV_WC_SUCCESS && !work.signaled) return;
  Completion done;
  done.wc.wr_id = work.wr_id;
  done.wc.status = status;
  done.wc.opcode = CompletionOpcode(work.opcode);
  done.wc.byte_len = work.length;
  done.wc.qp_num = identity_.qpn;
  out_->push_back(done);
}

void Requester::CompleteDirect(const ibv_send_wr& wr, std::uint32_t length) {
  if (!identity_.signal_all && (wr.send_flags & IBV_SEND_SIGNALED) == 0) return;
  Completion done;
  done.wc.wr_id = wr.wr_id;
  done.wc.status = IBV_WC_SUCCESS;
  done.wc.opcode = CompletionOpcode(wr.opcode);
  done.wc.byte_len = length;
  done.wc.qp_num = identity_.qpn;
  out_->push_back(done);
}

bool Requester::Retire() {
  while (!ring_.empty()) {
    const SendWork& work = ring_.Head();
    if (work.error != IBV_WC_SUCCESS) {
      Complete(work, work.error);
      ring_.PopHead();
      failed_ = true;
      return false;
    }
    const bool staged = ring_.head() != cursor_;
    const bool answered = static_cast<std::int32_t>(work.sequence - acked_) < 0;
    if (!staged || !(work.local_done || (!IsLocal(work) && answered))) return true;
    Complete(work, IBV_WC_SUCCESS);
    ring_.PopHead();
  }
  return true;
}

bool Requester::AcknowledgeBefore(std::uint32_t sequence) {
  if (sequence - acked_ > sent_ - acked_) return false;
  // A read is answered by its data, never by an acknowledgement of something later.
  for (std::uint32_t i = ring_.head(); i != cursor_; ++i) {
    const SendWork& work = ring_.At(i);
    if (static_cast<std::int32_t>(work.sequence - sequence) >= 0) break;
    if (IsAnswered(work)) return false;
  }
  acked_ = sequence;
  return true;
}

void Requester::GoBack() {
  cursor_ = ring_.head();
  sent_ = acked_;
  reads_ = 0;
  rewound_ = true;
}

Verdict Requester::OnResponse(const FrameHeader& header, Instant now) {
  const bool answers =
      header.type != FrameType::kReceiverReady && header.type != FrameType::kCredits;
  if (answers && header.sequence - acked_ >= sent_ - acked_) return Verdict::kViolation;
  TakeCredits(header);
  switch (header.type) {
    case FrameType::kAck:
      if (!AcknowledgeBefore(header.sequence + 1)) return Verdict::kViolation;
      rnr_counting_ = false;
      return Retire() ? Verdict::kContinue : Verdict::kFailed;
    case FrameType::kNak:
      return OnNak(header);
    case FrameType::kReceiverNotReady:
      return OnReceiverNotReady(header, now);
    case FrameType::kReceiverReady:
      waiting_ = false;
      return Verdict::kContinue;
    case FrameType::kCredits:
      return identity_.reliable ? Verdict::kContinue : Verdict::kViolation;
    case FrameType::kReadResponse:
      return OnReadResponse(header);
    case FrameType::kAtomicResponse:
      return OnAtomicResponse(header);
    default:
      return Verdict::kViolation;
  }
}

Verdict Requester::OnReceiverNotReady(const FrameHeader& header, Instant now) {
  const std::uint32_t before = acked_;
  if (waiting_ || !AcknowledgeBefore(header.sequence)) return Verdict::kViolation;
  if (!Retire()) return Verdict::kFailed;
  GoBack();
  // Each message has retries of its own.
  if (!rnr_counting_ || acked_ != before) rnr_left_ = limits_.rnr_retries;
  rnr_counting_ = true;
  if (rnr_left_ == 0) return FailNotReady();
  waiting_ = true;
  rnr_delay_ = RnrDelay(static_cast<std::uint8_t>(header.detail));
  deadline_ = limits_.rnr_retries == kEndlessRetries ? Instant::Never() : now + rnr_delay_;
  return Verdict::kContinue;
}

Verdict Requester::FailNotReady() {
  FailOldest(IBV_WC_RNR_RETRY_EXC_ERR);
  failed_ = true;
  return Verdict::kFailed;
}

void Requester::TakeCredits(const FrameHeader& header) {
  if (header.type == FrameType::kCredits) limited_ = true;
  const bool tells = header.type == FrameType::kCredits || header.type == FrameType::kAck ||
                     header.type == FrameType::kReceiverReady;
  if (!limited_ || !tells) return;
  if (static_cast<std::int32_t>(header.key - credit_limit_) > 0) credit_limit_ = header.key;
}

Verdict Requester::OnNak(const FrameHeader& header) {
  if (!AcknowledgeBefore(header.sequence)) return Verdict::kViolation;
  if (Retire()) {
    FailOldest(StatusOf(header.detail));
    failed_ = true;
  }
  return Verdict::kFailed;
}

Verdict Requester::OnReadResponse(const FrameHeader& header) {
  if (!AcknowledgeBefore(header.sequence)) return Verdict::kViolation;
  if (!Retire()) return Verdict::kFailed;
  const SendWork& work = ring_.Head();
  if (!IsRead(work) || work.sequence != header.sequence || work.length != header.length) {
    return Verdict::kViolation;
  }
  response_payload_ = PayloadOf(work);
  return Verdict::kPayload;
}

bool Requester::Refuse(std::uint32_t work) {
  ring_.At(work).error = IBV_WC_LOC_PROT_ERR;
  return Retire();
}

Verdict Requester::OnResponsePayload() {
  --reads_;
  rnr_counting_ = false;
  ++acked_;
  return Retire() ? Verdict::kContinue : Verdict::kFailed;
}

Verdict Requester::OnResponseRefused() {
  FailOldest(IBV_WC_LOC_PROT_ERR);
  failed_ = true;
  return Verdict::kFailed;
}

Verdict Requester::OnAtomicResponse(const FrameHeader& header) {
  if (!AcknowledgeBefore(header.sequence)) return Verdict::kViolation;
  if (!Retire()) return Verdict::kFailed;
  const SendWork& work = ring_.Head();
  if (!IsAtomic(work) || work.sequence != header.sequence) return Verdict::kViolation;
  IoBatch batch;
  std::array<std::byte, 8> value;
  std::memcpy(value.data(), &header.operand, 8);
  const bool good = MapPayload(*regions_, PayloadOf(work), 0, 8, &batch) == MapResult::kOk &&
                    CopyToProgram(batch, value);
  batch.Release();
  return good ? OnResponsePayload() : OnResponseRefused();
}

Verdict Requester::OnDeadline(Instant now) {
  if (!waiting_ || now < deadline_) return Verdict::kContinue;
  // The responder says when a receive is there; until then only the count goes on.
  if (--rnr_left_ == 0) return FailNotReady();
  deadline_ = now + rnr_delay_;
  return Verdict::kContinue;
}

bool Requester::FailOldest(ibv_wc_status status) {
  if (ring_.empty()) return false;
  Complete(ring_.Head(), status);
  ring_.PopHead();
  return true;
}

void Requester::Flush() {
  while (!ring_.empty()) FailOldest(IBV_WC_WR_FLUSH_ERR);
  cursor_ = begun_ = ring_.tail();
  waiting_ = false;
}

void Requester::Resume() {
  failed_ = false;
  next_sequence_ = sent_;
}

void Requester::StartOver() {
  GoBack();
  begun_ = cursor_;
  credit_limit_ = 0;
  rewound_ = limited_ = false;
}

void Requester::Reset() {
  ring_.Clear();
  cursor_ = begun_ = ring_.tail();
  next_sequence_ = sent_ = acked_ = reads_ = next_receive_ = credit_limit_ = 0;
  waiting_ = rnr_counting_ = rewound_ = failed_ = limited_ = false;
}

void Requester::CompleteUnreliable() {
  while (!ring_.empty()) {
    SendWork& work = ring_.Head();
    if (IsLocal(work) && !work.local_done) RunLocal(&work);
    if (work.error != IBV_WC_SUCCESS) failed_ = true;
    Complete(work, work.error);
    ring_.PopHead();
    if (failed_) break;
  }
  cursor_ = begun_ = ring_.head();
  // What never went out leaves no gap.
  next_sequence_ = sent_;
}

}  // namespace oxmem::nex
