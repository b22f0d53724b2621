#include "rdma/nex/qp/responder.h"

#include <endian.h>

#include <utility>

#include "rdma/nex/program_memory.h"
#include "transport/base/check.h"

namespace oxmem::nex {

Responder::Responder(const QpIdentity& identity, RegionTable* regions, ReceiveSource* receives,
                     SharedQueueFinder* finder, std::vector<Completion>* out)
    : identity_(identity), regions_(regions), receives_(receives), finder_(finder), out_(out) {}

void Responder::Push(const Answer& answer) {
  // Reads and atomics are bounded by kMaxReads. A NAK is the last answer of all, and after
  // "receiver not ready" nothing is executed until what is here has gone out and "receiver ready"
  // behind it.
  OXMEM_CHECK(answers_tail_ - answers_head_ < kMaxAnswers);
  answers_[answers_tail_++ % kMaxAnswers] = answer;
}

void Responder::Acknowledged() {
  ack_due_ = false;
  unacked_ = 0;
  unacked_bytes_ = 0;
}

Verdict Responder::OnRequest(const FrameHeader& header) {
  const Verdict skip = PayloadBytes(header) > 0 ? Verdict::kDrain : Verdict::kContinue;
  drop_current_ = true;
  if (discarding_ && (!ready_sent_ || header.sequence != expected_)) return skip;
  if (header.sequence != expected_) return Verdict::kViolation;
  discarding_ = ready_sent_ = false;
  drop_current_ = false;
  current_ = header;
  Verdict verdict = Verdict::kViolation;
  switch (header.type) {
    case FrameType::kSend:
    case FrameType::kSendImmediate:
    case FrameType::kSendInvalidate:
      verdict = OnSend();
      break;
    case FrameType::kWrite:
    case FrameType::kWriteImmediate:
      verdict = OnWrite();
      break;
    case FrameType::kRead:
      verdict = identity_.reliable ? OnRead() : Verdict::kViolation;
      break;
    case FrameType::kCompareSwap:
    case FrameType::kFetchAdd:
      verdict = identity_.reliable ? OnAtomic() : Verdict::kViolation;
      break;
    default:
      break;
  }
  if (verdict == Verdict::kDrain) {
    if (!identity_.reliable) ++expected_;
    return skip;
  }
  if (verdict == Verdict::kPayload && header.length == 0) return OnRequestPayload();
  return verdict;
}

// kContinue when a receive was taken.
Verdict Responder::TakeReceive(bool* taken) {
  *taken = false;
  source_ = receives_;
  if (identity_.type == IBV_QPT_XRC_RECV) {
    source_ = finder_ == nullptr ? nullptr : finder_->FindSharedQueue(current_.srq_number);
    if (source_ == nullptr) return Deny(NakCode::kInvalidRequest);
  }
  if (source_ != nullptr && source_->Take(&work_)) {
    *taken = has_work_ = true;
    ++receives_used_;
    // The peer has to stop now, unless there is more to count on.
    if (gives_credits() && receives_used_ == credits_told_ && source_->Await() > 0) {
      credits_due_ = true;
    }
    return Verdict::kContinue;
  }
  drop_current_ = true;
  if (!identity_.reliable) return Verdict::kDrain;
  Answer answer;
  answer.header.type = FrameType::kReceiverNotReady;
  answer.header.sequence = expected_;
  answer.header.detail = rnr_timer_;
  Acknowledged();
  Push(answer);
  discarding_ = true;
  ready_due_ = ready_sent_ = false;
  return Verdict::kDrain;
}

void Responder::OnAttached() { credits_due_ = gives_credits(); }

std::uint32_t Responder::CreditLimit() {
  credits_due_ = false;
  credits_told_ = receives_used_ + receives_->Await();
  return credits_told_;
}

void Responder::OnReceiveAvailable() {
  credits_due_ = gives_credits();
  ready_due_ = discarding_ && !ready_sent_;
}

Verdict Responder::Deny(NakCode code) {
  drop_current_ = true;
  if (!identity_.reliable) return Verdict::kDrain;
  Answer answer;
  answer.header.type = FrameType::kNak;
  answer.header.sequence = expected_;
  answer.header.detail = static_cast<std::uint16_t>(code);
  Acknowledged();
  Push(answer);
  denied_ = true;
  denied_access_ = code == NakCode::kRemoteAccess;
  return Verdict::kFailed;
}

Verdict Responder::DenyReceive(NakCode code, ibv_wc_status status) {
  CompleteReceive(status);
  const Verdict verdict = Deny(code);
  return verdict == Verdict::kDrain ? Verdict::kFailed : verdict;
}

Verdict Responder::OnSend() {
  bool taken;
  if (const Verdict verdict = TakeReceive(&taken); !taken) return verdict;
  payload_ = {.sges = work_.sges.data(),
              .count = work_.sge_count,
              .use = RegionUse::kLocal,
              .access = IBV_ACCESS_LOCAL_WRITE,
              .domain = work_.domain,
              .qpn = identity_.qpn};
  if (PayloadLength(payload_) < current_.length) {
    return DenyReceive(NakCode::kInvalidRequest, IBV_WC_LOC_LEN_ERR);
  }
  if (CheckPayload(*regions_, payload_, current_.length) != MapResult::kOk) {
    return DenyReceive(NakCode::kRemoteOperation, IBV_WC_LOC_PROT_ERR);
  }
  return Verdict::kPayload;
}

bool Responder::FindDomain(std::uint32_t* domain) {
  *domain = identity_.domain;
  if (identity_.type != IBV_QPT_XRC_RECV) return true;
  const ReceiveSource* source =
      finder_ == nullptr ? nullptr : finder_->FindSharedQueue(current_.srq_number);
  if (source != nullptr) *domain = source->domain();
  return source != nullptr;
}

bool Responder::RemotePayload(std::uint64_t address, std::uint32_t key, std::uint32_t length,
                              std::uint32_t access) {
  remote_ = {address, length, key};
  std::uint32_t domain;
  if (!FindDomain(&domain)) return false;
  payload_ = {.sges = &remote_,
              .count = 1,
              .use = RegionUse::kRemote,
              .access = access,
              .domain = domain,
              .qpn = identity_.qpn};
  return CheckPayload(*regions_, payload_, length) == MapResult::kOk;
}

Verdict Responder::OnWrite() {
  if ((access_ & IBV_ACCESS_REMOTE_WRITE) == 0) return Deny(NakCode::kInvalidRequest);
  if (!RemotePayload(current_.address, current_.key, current_.length, IBV_ACCESS_REMOTE_WRITE)) {
    return Deny(NakCode::kRemoteAccess);
  }
  if (current_.type == FrameType::kWriteImmediate) {
    bool taken;
    if (const Verdict verdict = TakeReceive(&taken); !taken) return verdict;
  }
  return Verdict::kPayload;
}

Verdict Responder::OnRead() {
  if (!serves_reads_ || (access_ & IBV_ACCESS_REMOTE_READ) == 0) {
    return Deny(NakCode::kInvalidRequest);
  }
  if (!RemotePayload(current_.address, current_.key, current_.length, IBV_ACCESS_REMOTE_READ)) {
    return Deny(NakCode::kRemoteAccess);
  }
  if (answers_tail_ - answers_head_ >= kMaxReads) return Deny(NakCode::kInvalidRequest);
  Answer answer;
  answer.header.type = FrameType::kReadResponse;
  answer.header.sequence = expected_++;
  answer.header.length = current_.length;
  answer.range = remote_;
  answer.domain = payload_.domain;
  answer.has_payload = true;
  Acknowledged();
  Push(answer);
  return Verdict::kContinue;
}

Verdict Responder::OnAtomic() {
  if (!serves_reads_ || (current_.address & 7) != 0) return Deny(NakCode::kInvalidRequest);
  if ((access_ & IBV_ACCESS_REMOTE_ATOMIC) == 0) return Deny(NakCode::kInvalidRequest);
  if (answers_tail_ - answers_head_ >= kMaxReads) return Deny(NakCode::kInvalidRequest);
  std::uint32_t domain;
  if (!FindDomain(&domain)) return Deny(NakCode::kInvalidRequest);
  const auto pinned = regions_->Pin({.use = RegionUse::kRemote,
                                     .key = current_.key,
                                     .address = current_.address,
                                     .length = 8,
                                     .access = IBV_ACCESS_REMOTE_ATOMIC,
                                     .domain = domain,
                                     .qpn = identity_.qpn});
  if (pinned.region == nullptr) return Deny(NakCode::kRemoteAccess);
  if (reinterpret_cast<std::uintptr_t>(pinned.memory) % 8 != 0) {
    RegionTable::Unpin(pinned.region);
    return Deny(NakCode::kInvalidRequest);
  }
  auto* const value = reinterpret_cast<std::uint64_t*>(pinned.memory);
  std::uint64_t found = 0;
  const bool done = current_.type == FrameType::kFetchAdd
                        ? FetchAddInProgram(value, current_.operand, &found)
                        : CompareSwapInProgram(value, current_.operand, current_.swap, &found);
  RegionTable::Unpin(pinned.region);
  if (!done) return Deny(NakCode::kRemoteAccess);
  Answer answer;
  answer.header.type = FrameType::kAtomicResponse;
  answer.header.sequence = expected_++;
  answer.header.operand = found;
  Acknowledged();
  Push(answer);
  return Verdict::kContinue;
}

Verdict Responder::OnRequestPayload() {
  if (drop_current_) return Verdict::kContinue;
  if (current_.type == FrameType::kSendInvalidate &&
      !regions_->Invalidate(current_.immediate, identity_.domain, identity_.qpn)) {
    return DenyReceive(NakCode::kRemoteAccess, IBV_WC_MW_BIND_ERR);
  }
  if (has_work_) CompleteReceive(IBV_WC_SUCCESS);
  ack_ = expected_++;
  if (identity_.reliable) {
    ack_due_ = true;
    ++unacked_;
    unacked_bytes_ += current_.length;
  }
  return Verdict::kContinue;
}

Verdict Responder::OnPayloadRefused() {
  if (current_.type == FrameType::kWrite || current_.type == FrameType::kWriteImmediate) {
    if (has_work_) CompleteReceive(IBV_WC_WR_FLUSH_ERR);
    const Verdict verdict = Deny(NakCode::kRemoteAccess);
    if (verdict == Verdict::kDrain) ++expected_;
    return verdict;
  }
  return DenyReceive(NakCode::kRemoteOperation, IBV_WC_LOC_PROT_ERR);
}

void Responder::CompleteReceive(ibv_wc_status status) {
  Completion done;
  done.receive = true;
  done.solicited = (current_.flags & kFlagSolicited) != 0;
  done.source = source_;
  ibv_wc& wc = done.wc;
  wc.wr_id = work_.wr_id;
  wc.status = status;
  wc.byte_len = current_.length;
  wc.qp_num = identity_.qpn;
  wc.opcode = current_.type == FrameType::kWriteImmediate ? IBV_WC_RECV_RDMA_WITH_IMM : IBV_WC_RECV;
  if (current_.type == FrameType::kWriteImmediate || current_.type == FrameType::kSendImmediate) {
    wc.wc_flags |= IBV_WC_WITH_IMM;
    wc.imm_data = htobe32(current_.immediate);
  } else if (current_.type == FrameType::kSendInvalidate) {
    wc.wc_flags |= IBV_WC_WITH_INV;
    wc.invalidated_rkey = current_.immediate;
  }
  out_->push_back(done);
  has_work_ = false;
}

bool Responder::Stage(OutFrame* frame, bool acknowledge) {
  FrameHeader header;
  frame->request = false;
  frame->length = 0;
  frame->payload = {};
  if (HasAnswers()) {
    const Answer& answer = answers_[answers_head_++ % kMaxAnswers];
    header = answer.header;
    if (answer.has_payload) {
      frame->own = answer.range;
      frame->length = header.length;
      frame->payload = {.sges = &frame->own,
                        .count = 1,
                        .use = RegionUse::kRemote,
                        .access = IBV_ACCESS_REMOTE_READ,
                        .domain = answer.domain,
                        .qpn = identity_.qpn};
    }
  } else if (ready_due_) {
    header.type = FrameType::kReceiverReady;
    header.sequence = expected_;
    ready_due_ = false;
    ready_sent_ = true;
    if (gives_credits()) header.key = CreditLimit();
  } else if (ack_due() && acknowledge) {
    // The peer learns from the first frame of its own that there are credits at all.
    const bool first = gives_credits() && !std::exchange(credits_announced_, true);
    if (first || !ack_due_) {
      header.type = FrameType::kCredits;
    } else {
      header.type = FrameType::kAck;
      header.sequence = ack_;
      Acknowledged();
    }
    if (gives_credits()) header.key = CreditLimit();
  } else {
    return false;
  }
  EncodeHeader(header, frame->header);
  return true;
}

void Responder::FailCurrent(ibv_wc_status status) {
  if (has_work_) CompleteReceive(status);
}

void Responder::DropAnswers() {
  answers_head_ = answers_tail_;
  ready_due_ = false;
}

void Responder::Reset() {
  expected_ = ack_ = 0;
  Acknowledged();
  discarding_ = ready_sent_ = denied_ = has_work_ = drop_current_ = false;
  credits_due_ = credits_announced_ = denied_access_ = false;
  receives_used_ = credits_told_ = 0;
  DropAnswers();
}

}  // namespace oxmem::nex
