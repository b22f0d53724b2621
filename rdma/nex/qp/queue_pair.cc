#include "rdma/nex/qp/queue_pair.h"

#include <algorithm>
#include <cstring>

#include "rdma/nex/program_memory.h"

namespace oxmem::nex {

QueuePair::QueuePair(const QpIdentity& identity, RegionTable* regions, ReceiveSource* receives,
                     SharedQueueFinder* finder)
    : identity_(identity),
      regions_(regions),
      requester_(identity, regions, &completions_),
      responder_(identity, regions, receives, finder, &completions_) {
  completions_.reserve(64);
}

void QueuePair::Configure(const Parameters& parameters) {
  parameters_ = parameters;
  requester_.set_limits(parameters.requester);
  responder_.set_access(parameters.access);
  responder_.set_serves_reads(parameters.serves_reads);
  responder_.set_rnr_timer(parameters.rnr_timer);
}

int QueuePair::Post(const ibv_send_wr& wr, const BindWork* bind, Instant now) {
  if (const int error = requester_.Post(wr, bind); error != 0) return error;
  if (failed_ || send_failed_) {
    requester_.Flush();
  } else if (gone_ && !identity_.reliable) {
    CompleteUnreliable();
  } else if (!attached_) {
    RunLocals();
    gone_ ? AwaitLoss(now) : AwaitPeer(now);
  }
  return 0;
}

void QueuePair::RunLocals() {
  if (!sending_ || failed_ || send_failed_) return;
  requester_.Stage(nullptr, true);
  if (requester_.failed()) FailSending();
}

void QueuePair::SetSending(bool allowed, Instant now) {
  if (std::exchange(sending_, allowed) == allowed || attached_) return;
  if (!gone_ || !requester_.under_way()) peer_deadline_ = Instant::Never();
  RunLocals();
  gone_ ? AwaitLoss(now) : AwaitPeer(now);
}

void QueuePair::Fail() {
  if (failed_) return;
  failed_ = true;
  peer_deadline_ = Instant::Never();
  responder_.FailCurrent(IBV_WC_WR_FLUSH_ERR);
  requester_.Flush();
  out_.DropUnsentRequests();
  sink_ = Sink::kDrain;
  payload_left_ = 0;
}

void QueuePair::SelfFail() {
  if (failed_) return;
  self_failed_ = true;
  Fail();
}

void QueuePair::FailSending() {
  if (identity_.reliable) return SelfFail();
  if (failed_ || send_failed_) return;
  send_failed_ = send_failure_new_ = true;
  requester_.Flush();
}

void QueuePair::ResumeSending() {
  send_failed_ = send_failure_new_ = false;
  requester_.Resume();
}

void QueuePair::CompleteUnreliable() {
  requester_.CompleteUnreliable();
  if (requester_.failed()) FailSending();
}

void QueuePair::Reset() {
  requester_.Reset();
  responder_.Reset();
  out_.Clear();
  completions_.clear();
  attached_ = met_ = touched_ = gone_ = failed_ = sending_ = self_failed_ = access_error_ =
      peer_seen_ = peer_told_ = stuck_ = send_failed_ = send_failure_new_ = false;
  peer_deadline_ = patient_until_ = Instant::Never();
  sink_ = Sink::kHeader;
  header_have_ = 0;
  payload_left_ = payload_done_ = 0;
}

void QueuePair::Attach() {
  attached_ = met_ = true;
  patient_until_ = std::exchange(peer_deadline_, Instant::Never());
  responder_.OnAttached();
}

// For a peer that is not there, as long as requests wait for it.
void QueuePair::AwaitPeer(Instant now) {
  if (!sending_ || !peer_deadline_.is_never() || requester_.idle()) return;
  if (parameters_.peer_timeout > Duration()) peer_deadline_ = now + parameters_.peer_timeout;
}

// For one that has gone, likewise.
void QueuePair::AwaitLoss(Instant now) {
  if (!peer_deadline_.is_never() || requester_.idle()) return;
  if (!sending_ && !requester_.under_way()) return;
  const bool patient = parameters_.peer_timeout <= Duration();
  peer_deadline_ = now + std::min(patient ? kLongestLoss : parameters_.peer_timeout, kLongestLoss);
}

void QueuePair::Detach(Instant now) {
  if (!attached_) return;
  attached_ = false;
  if (!failed_ && untouched()) {
    out_.Clear();
    requester_.StartOver();
    responder_.Reset();
    if (sending_ && !requester_.idle()) peer_deadline_ = patient_until_;
    AwaitPeer(now);
    return;
  }
  gone_ = true;
  if (failed_) return;
  responder_.FailCurrent(IBV_WC_WR_FLUSH_ERR);
  responder_.DropAnswers();
  out_.Clear();
  if (!identity_.reliable) {
    CompleteUnreliable();
  } else {
    AwaitLoss(now);
  }
}

bool QueuePair::Handle(Verdict verdict) {
  if (requester_.rewound()) {
    out_.DropUnsentRequests();
    // What would have to go again cannot.
    if (stuck_ && requester_.FailOldest(IBV_WC_LOC_PROT_ERR)) SelfFail();
  }
  switch (verdict) {
    case Verdict::kContinue:
      sink_ = Sink::kHeader;
      return true;
    case Verdict::kPayload:
    case Verdict::kDrain:
      return true;
    case Verdict::kFailed:
      if (responder_.denied()) access_error_ = true;
      SelfFail();
      return true;
    case Verdict::kViolation:
      return false;
  }
  return false;
}

bool QueuePair::OnHeader(Instant now) {
  const auto header = DecodeHeader(std::span<const std::byte, kHeaderBytes>(header_));
  header_have_ = 0;
  // What every stream begins with is no news.
  if (!header || header->type != FrameType::kCredits) Touch();
  if (!header) return false;
  const bool request = IsRequest(header->type);
  if (request) peer_seen_ = true;
  const Verdict verdict =
      request ? responder_.OnRequest(*header) : requester_.OnResponse(*header, now);
  payload_done_ = 0;
  payload_left_ = PayloadBytes(*header);
  drain_of_ = request ? Sink::kRequest : Sink::kResponse;
  if (verdict == Verdict::kPayload) sink_ = drain_of_;
  if (verdict == Verdict::kDrain) sink_ = Sink::kDrain;
  if (!Handle(verdict)) return false;
  if (!failed_ && sink_ != Sink::kHeader && payload_left_ == 0) return PayloadDone();
  return true;
}

bool QueuePair::PayloadDone() {
  const Sink sink = std::exchange(sink_, Sink::kHeader);
  if (sink == Sink::kRequest) return Handle(responder_.OnRequestPayload());
  if (sink == Sink::kResponse) return Handle(requester_.OnResponsePayload());
  return true;
}

void QueuePair::PlacePayload(std::span<const std::byte> bytes) {
  while (!bytes.empty() && !failed_) {
    IoBatch batch;
    DirectTargets(bytes.size(), &batch);
    const std::size_t placed = batch.bytes;
    const bool good = CopyToProgram(batch, bytes.first(placed));
    batch.Release();
    if (!good) OnDirectRefused();
    if (failed_) return;
    if (placed == 0 || !good) {
      // Nothing comes of this message, and the next one follows it.
      payload_left_ -= bytes.size();
      return;
    }
    payload_done_ += placed;
    payload_left_ -= placed;
    bytes = bytes.subspan(placed);
  }
}

void QueuePair::DirectTargets(std::uint64_t limit, IoBatch* batch) {
  if (failed_ || (sink_ != Sink::kRequest && sink_ != Sink::kResponse)) return;
  const Payload& payload =
      sink_ == Sink::kRequest ? responder_.request_payload() : requester_.response_payload();
  limit = std::min(limit, payload_left_);
  if (MapPayload(*regions_, payload, payload_done_, limit, batch) == MapResult::kOk) return;
  batch->Release();
  OnDirectRefused();
}

void QueuePair::OnDirectRefused() {
  const Verdict verdict =
      sink_ == Sink::kRequest ? responder_.OnPayloadRefused() : requester_.OnResponseRefused();
  if (verdict == Verdict::kDrain) sink_ = Sink::kDrain;
  Handle(verdict);
}

bool QueuePair::OnDirect(std::size_t bytes, Instant) {
  bytes_in_ += bytes;
  payload_done_ += bytes;
  payload_left_ -= bytes;
  return payload_left_ > 0 || PayloadDone();
}

bool QueuePair::OnBytes(std::span<const std::byte> bytes, Instant now) {
  bytes_in_ += bytes.size();
  while (!bytes.empty()) {
    if (failed_) return true;  // what still comes is of no interest
    if (sink_ == Sink::kHeader) {
      const std::size_t take = std::min(bytes.size(), kHeaderBytes - header_have_);
      std::memcpy(header_.data() + header_have_, bytes.data(), take);
      header_have_ += take;
      bytes = bytes.subspan(take);
      if (header_have_ == kHeaderBytes && !OnHeader(now)) return false;
      continue;
    }
    const std::size_t take = std::min<std::uint64_t>(bytes.size(), payload_left_);
    if (sink_ == Sink::kDrain) {
      payload_left_ -= take;
    } else {
      PlacePayload(bytes.first(take));
    }
    bytes = bytes.subspan(take);
    if (!failed_ && payload_left_ == 0 && !PayloadDone()) return false;
  }
  return true;
}

void QueuePair::StageFrames(bool acknowledge) {
  while (!out_.full()) {
    OutFrame& frame = out_.Push();
    // Answers first: the peer waits for them, and an acknowledgement with them is free.
    const bool now = acknowledge || responder_.ack_urgent() || wants_to_send();
    if (responder_.Stage(&frame, now)) continue;
    if (!failed_ && !send_failed_ && requester_.Stage(&frame, sending_)) continue;
    out_.DropLast();
    break;
  }
  if (requester_.failed() && !failed_) FailSending();
}

bool QueuePair::FillOutput(IoBatch* batch, bool acknowledge) {
  if (!attached_) {
    return true;
  }
  if (stuck_ && !failed_) return true;
  StageFrames(acknowledge);
  if (failed_ && out_.mid_frame() && out_.Front().request) return false;
  if (out_.Fill(*regions_, batch) == MapResult::kOk) return true;
  batch->Release();
  return OnOutputRefused();
}

bool QueuePair::OnOutputRefused() {
  // A message cannot be taken back half-way, so nothing follows it on this stream. What was sent
  // before it is still answered, and completes first.
  stuck_ = !failed_ && out_.Front().request && requester_.Refuse(out_.Front().work);
  if (!stuck_) SelfFail();
  return stuck_;
}

void QueuePair::OnWritten(std::size_t bytes) {
  bytes_out_ += bytes;
  out_.Advance(bytes, [this](const OutFrame& frame) {
    if (frame.request) Touch();
    if (frame.request && !failed_) requester_.OnSent(frame);
  });
  if (out_.mid_frame() && out_.Front().request) Touch();
}

Instant QueuePair::deadline() const {
  if (failed_) return Instant::Never();
  return gone_ ? peer_deadline_ : std::min(peer_deadline_, requester_.deadline());
}

void QueuePair::OnDeadline(Instant now) {
  if (failed_) return;
  if (now >= peer_deadline_) {
    peer_deadline_ = Instant::Never();
    if (!identity_.reliable) {
      CompleteUnreliable();
    } else if (requester_.FailOldest(IBV_WC_RETRY_EXC_ERR)) {
      SelfFail();
    }
    return;
  }
  if (!gone_ && requester_.OnDeadline(now) == Verdict::kFailed) SelfFail();
}

}  // namespace oxmem::nex
