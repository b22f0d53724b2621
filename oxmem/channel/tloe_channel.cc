#include "oxmem/channel/tloe_channel.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/api/validate.h"
#include "transport/base/byte_order.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::channel {
namespace {

using tilelink::DecodedMessage;
using tilelink::OpcodeA;
using tilelink::OpcodeD;
using transport::Code;
using transport::Completion;
using transport::Op;
using transport::Request;

constexpr std::size_t kFrameBatch = 64;
constexpr uint32_t kMessageSlots = 4096;

tloe::EngineConfig EngineConfigFor(const Options& options, const link::Link& link,
                                   const link::Address& peer) {
  tloe::EngineConfig config = options.engine;
  config.role = tloe::Role::kInitiator;
  config.max_frame_bytes = link.max_frame_bytes_to(peer);
  return config;
}

OpcodeD AnswerTo(OpcodeA request) {
  switch (request) {
    case OpcodeA::kGet:
    case OpcodeA::kArithmeticData:
    case OpcodeA::kLogicalData:
      return OpcodeD::kAccessAckData;
    case OpcodeA::kIntent:
      return OpcodeD::kHintAck;
    default:
      return OpcodeD::kAccessAck;
  }
}

transport::Limits LimitsFor(const Options& options) {
  transport::Limits limits;
  limits.size_bytes = options.size_bytes;
  limits.largest_request_bytes = options.largest_request_bytes;
  limits.depth = options.depth;
  limits.read_only = options.read_only;
  limits.prefetch = true;
  using transport::AtomicOp;
  for (const AtomicOp op :
       {AtomicOp::kAdd, AtomicOp::kSwap, AtomicOp::kAnd, AtomicOp::kOr, AtomicOp::kXor,
        AtomicOp::kMin, AtomicOp::kMax, AtomicOp::kMinUnsigned, AtomicOp::kMaxUnsigned}) {
    limits.atomics = limits.atomics.With(op);
  }
  return limits;
}

absl::Status CheckOptions(const Options& options, const link::Link& link,
                          const link::Address& peer) {
  if (options.size_bytes == 0) return absl::InvalidArgumentError("tloe: a region of 0 bytes");
  if (!CheckedAdd(options.base_address, options.size_bytes - 1)) {
    return absl::InvalidArgumentError(absl::StrFormat("tloe: base 0x%x and size %s reach past 2^64",
                                                      options.base_address,
                                                      FormatSize(options.size_bytes)));
  }
  const uint8_t fits = tloe::Engine::LargestDataSize(link.max_frame_bytes_to(peer));
  if (options.largest_message_size > fits) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "tloe: a message of %s does not fit a frame on %s, which takes %s: lower max_message or "
        "raise the MTU",
        FormatSize(uint64_t{1} << options.largest_message_size), link.name(),
        FormatSize(uint64_t{1} << fits)));
  }
  return absl::OkStatus();
}

}  // namespace

TloeChannel::TloeChannel(std::unique_ptr<link::Link> link, const link::Address& peer,
                         Options options, Instant now)
    : link_(std::move(link)),
      peer_(peer),
      options_(std::move(options)),
      limits_(LimitsFor(options_)),
      name_(absl::StrCat("tloe ", link_->FormatAddress(peer), " on ", link_->name())),
      engine_(EngineConfigFor(options_, *link_, peer)),
      wanted_message_size_(options_.largest_message_size != 0
                               ? options_.largest_message_size
                               : tloe::Engine::LargestDataSize(link_->max_frame_bytes_to(peer))),
      largest_message_size_(wanted_message_size_),
      largest_read_size_(wanted_message_size_),
      requests_(options_.depth),
      messages_(kMessageSlots),
      completions_(options_.depth),
      incoming_(kFrameBatch),
      lost_since_(now) {
  outgoing_.reserve(kFrameBatch);
}

TloeChannel::~TloeChannel() { Close(); }

absl::StatusOr<std::unique_ptr<TloeChannel>> TloeChannel::Start(std::unique_ptr<link::Link> link,
                                                                const link::Address& peer,
                                                                Options options, Instant now) {
  OXMEM_RETURN_IF_ERROR(CheckOptions(options, *link, peer));
  auto channel =
      std::unique_ptr<TloeChannel>(new TloeChannel(std::move(link), peer, std::move(options), now));
  channel->engine_.Open(now);
  channel->Advance(now);
  return channel;
}

absl::StatusOr<std::unique_ptr<TloeChannel>> TloeChannel::Connect(std::unique_ptr<link::Link> link,
                                                                  const link::Address& peer,
                                                                  Options options) {
  OXMEM_RETURN_IF_ERROR(link->health());
  Instant now = Now();
  const Instant give_up = now + options.connect_timeout;
  OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<TloeChannel> channel,
                         Start(std::move(link), peer, std::move(options), now));
  while (channel->PollAt(now, {}), !channel->connected()) {
    const bool hopeless = channel->last_failure_ == tloe::Failure::kOtherProtocol;
    if (now >= give_up || hopeless || !channel->link_status_.ok()) {
      const absl::Status health = channel->health();
      channel->closed_ = true;
      return health;
    }
    pollfd waiting = {.fd = channel->event_fd(), .events = POLLIN, .revents = 0};
    const Instant until = std::min(channel->next_deadline(), give_up);
    poll(&waiting, 1, PollTimeoutMs(now, until));
    now = Now();
  }
  return channel;
}

std::size_t TloeChannel::Submit(std::span<const Request> requests) {
  return SubmitAt(Now(), requests);
}

std::size_t TloeChannel::SubmitAt(Instant now, std::span<const Request> requests) {
  std::size_t taken = 0;
  for (const Request& request : requests) {
    if (requests_.count() + completions_.size() >= options_.depth) break;
    ++taken;
    Code code = closed_ ? Code::kClosed : Validate(request, limits_);
    const bool nothing_to_do = request.length == 0 && request.op != Op::kFlush;
    if (code != Code::kOk || nothing_to_do) {
      CountOutcome(request, code, Duration());
      AddCompletion(request, code, 0);
      continue;
    }
    const uint32_t index = requests_.Add(request, now);
    if (request.op == Op::kFlush) requests_[index].request.length = 0;
  }
  FinishFlushes(now);
  Advance(now);
  return taken;
}

std::size_t TloeChannel::Poll(std::span<Completion> completions) {
  return PollAt(Now(), completions);
}

std::size_t TloeChannel::PollAt(Instant now, std::span<Completion> completions) {
  // Most looks of a waiting owner find nothing, and must cost it nothing else.
  if (ReceiveFrames(now) || due_ <= now) {
    if (due_ <= now) engine_.OnDeadline(now);
    MaintainConnection(now);
    LookForAnswers(now);
    ExpireRequests(now);
    Advance(now);
  }
  const std::size_t drained = completions_.Drain(completions);
  if (drained != 0) CountInFlight();
  return drained;
}

void TloeChannel::Advance(Instant now) {
  SendRequests();
  SendFrames(now);
  CopyEngineStats();
  CountInFlight();
  due_ = DueAt();
}

void TloeChannel::CountInFlight() { stats_.in_flight.Set(requests_.count() + completions_.size()); }

bool TloeChannel::Arm() { return completions_.empty(); }

Instant TloeChannel::next_deadline() const { return completions_.empty() ? due_ : Instant(); }

Instant TloeChannel::DueAt() const {
  Instant next = std::min({engine_.next_deadline(), reopen_at_, look_at_});
  auto& requests = const_cast<RequestTable&>(requests_);
  if (const uint32_t oldest = requests.oldest(); oldest != RequestTable::kNone) {
    next = std::min(next, requests[oldest].submitted + options_.request_timeout);
  }
  return next;
}

void TloeChannel::Close() { CloseAt(Now()); }

void TloeChannel::CloseAt(Instant now) {
  if (closed_) return;
  closed_ = true;
  while (requests_.oldest() != RequestTable::kNone) {
    Finish(now, requests_.oldest(), Code::kClosed);
  }
  if (engine_.state() == tloe::State::kOpen) engine_.Close(now);
  Advance(now);
}

absl::StatusOr<transport::MemoryHandle> TloeChannel::Register(std::span<std::byte>) {
  return std::make_unique<transport::NoRegistration>();
}

bool TloeChannel::ReceiveFrames(Instant now) {
  for (bool received = false;; received = true) {
    const std::size_t count = link_->Receive(incoming_);
    for (std::size_t i = 0; i < count; ++i) {
      if (incoming_[i].from != peer_) continue;
      last_frame_ = now;
      engine_.OnFrame(now, incoming_[i].bytes);
      while (const DecodedMessage* message = engine_.NextMessage()) OnMessage(now, *message);
    }
    if (count < incoming_.size()) return received || count != 0;
    // Acknowledgements and credits go out between batches, so that a long stream does not stall.
    SendRequests();
    SendFrames(now);
  }
}

void TloeChannel::OnMessage(Instant now, const DecodedMessage& message) {
  if (message.message.channel != tilelink::Channel::kD)
    return;  // nothing else is addressed to a requester
  const uint32_t index = messages_.Find(message.message.source);
  if (index == SourceIds::kNone) return;  // an answer to a request that was given up
  const MessageSlot slot = messages_[index];
  last_answer_ = now;
  if (HasData(message.message)) longest_answer_ = std::max(longest_answer_, slot.size);
  UnlinkMessage(index);
  messages_.Release(index);
  OnAnswer(now, slot.request, slot, message);
}

void TloeChannel::OnAnswer(Instant now, uint32_t request_index, const MessageSlot& slot,
                           const DecodedMessage& answer) {
  ActiveRequest& active = requests_[request_index];
  const std::size_t length = std::size_t{1} << slot.size;
  if (slot.opcode == static_cast<uint8_t>(OpcodeA::kGet) && answer.message.denied &&
      !HasData(answer.message) && AskForLess(request_index, slot.size))
    return;
  const OpcodeD wanted = AnswerTo(static_cast<OpcodeA>(slot.opcode));
  const bool wants_data = wanted == OpcodeD::kAccessAckData;
  Code code = Code::kOk;
  if (answer.message.denied) {
    code = Code::kDenied;
  } else if (answer.message.corrupt) {
    code = Code::kCorrupt;
  } else if (answer.malformed || answer.message.opcode != static_cast<uint8_t>(wanted) ||
             (wants_data && DataBytes(answer.message) != length)) {
    code = Code::kFailed;  // an answer that does not answer the question
  } else if (slot.opcode == static_cast<uint8_t>(OpcodeA::kGet)) {
    CopyAnswer(active.request, slot, answer,
               std::span(active.request.buffer + slot.offset, length));
  } else if (wants_data) {
    std::array<std::byte, 8> old_value{};
    CopyAnswer(active.request, slot, answer, std::span(old_value).first(length));
    active.old_value = LoadLittleEndian<uint64_t>(old_value.data());
  }
  if (code == Code::kOk && active.shorter_frames != 0) OnShorterFrames(active, slot);
  active.answered += length;
  if (active.code == Code::kOk) active.code = code;
  FinishAnswered(now, request_index);
}

void TloeChannel::CopyAnswer(const Request& request, const MessageSlot& slot,
                             const DecodedMessage& answer, std::span<std::byte> to) const {
  if (to.size() >= tilelink::kFlitBytes) {
    CopyData(answer.message, answer.payload, engine_.data_order(), to);
    return;
  }
  // An answer carries no address, and yet its data lies in the byte lanes of the request's.
  tilelink::Message message = answer.message;
  message.address = options_.base_address + request.offset + slot.offset;
  CopyData(message, answer.payload, engine_.data_order(), to);
}

void TloeChannel::FinishAnswered(Instant now, uint32_t request_index) {
  ActiveRequest& active = requests_[request_index];
  if (active.first_message != SourceIds::kNone) return;
  // After an error the rest of the request is not sent any more.
  if (active.code == Code::kOk && !active.all_sent()) return;
  Finish(now, request_index, active.code);
  FinishFlushes(now);
}

void TloeChannel::FinishFlushes(Instant now) {
  while (requests_.oldest() != RequestTable::kNone && requests_[requests_.oldest()].is_flush()) {
    Finish(now, requests_.oldest(), Code::kOk);
  }
}

void TloeChannel::Finish(Instant now, uint32_t request_index, Code code) {
  ReleaseMessages(request_index);
  const ActiveRequest& active = requests_[request_index];
  CountOutcome(active.request, code, now - active.submitted);
  AddCompletion(active.request, code, active.old_value);
  requests_.Remove(request_index);
}

void TloeChannel::AddCompletion(const Request& request, Code code, uint64_t old_value) {
  completions_.Push(Completion{.cookie = request.cookie,
                               .bytes = code == Code::kOk ? request.length : 0,
                               .old_value = code == Code::kOk ? old_value : 0,
                               .code = code});
}

void TloeChannel::CountOutcome(const Request& request, Code code, Duration latency) {
  if (code != Code::kOk) {
    stats_.failures.Increment();
    if (code == Code::kTimedOut) stats_.timeouts.Increment();
    return;
  }
  stats_.latency.Record(latency);
  switch (request.op) {
    case Op::kRead:
      stats_.reads.Increment();
      stats_.read_bytes.Add(request.length);
      break;
    case Op::kWrite:
      stats_.writes.Increment();
      stats_.write_bytes.Add(request.length);
      break;
    case Op::kFlush:
      stats_.flushes.Increment();
      break;
    case Op::kAtomic:
      stats_.atomics.Increment();
      break;
    case Op::kZero:
      stats_.zeroes.Increment();
      break;
    case Op::kPrefetch:
      stats_.prefetches.Increment();
      break;
  }
}

void TloeChannel::ExpireRequests(Instant now) {
  bool expired = false;
  bool silent = false;
  while (requests_.oldest() != RequestTable::kNone) {
    const Instant submitted = requests_[requests_.oldest()].submitted;
    if (submitted + options_.request_timeout > now) break;
    expired = true;
    silent = silent || last_frame_ < submitted;
    Finish(now, requests_.oldest(), Code::kTimedOut);
  }
  if (!expired) return;
  FinishFlushes(now);
  if (uint64_t suppressed = 0; timeout_log_.Allow(now, &suppressed)) {
    spdlog::warn("{}: request timed out after {:.3g} s{}", name_,
                 options_.request_timeout.seconds(),
                 suppressed == 0 ? "" : absl::StrCat(" (", suppressed, " lines kept back)"));
  }
  // The engine may have patience left, but a peer that said nothing all that time is gone.
  if (silent && engine_.state() == tloe::State::kOpen) OnLost(now, engine_.failure());
}

void TloeChannel::LinkMessage(uint32_t request_index, uint32_t message_index) {
  ActiveRequest& active = requests_[request_index];
  MessageSlot& slot = messages_[message_index];
  slot.request = request_index;
  slot.previous = SourceIds::kNone;
  slot.next = active.first_message;
  if (slot.next != SourceIds::kNone) messages_[slot.next].previous = message_index;
  active.first_message = message_index;
}

void TloeChannel::UnlinkMessage(uint32_t message_index) {
  const MessageSlot& slot = messages_[message_index];
  if (slot.previous == SourceIds::kNone) {
    requests_[slot.request].first_message = slot.next;
  } else {
    messages_[slot.previous].next = slot.next;
  }
  if (slot.next != SourceIds::kNone) messages_[slot.next].previous = slot.previous;
}

void TloeChannel::ReleaseMessages(uint32_t request_index) {
  ActiveRequest& active = requests_[request_index];
  while (active.first_message != SourceIds::kNone) {
    const uint32_t index = active.first_message;
    active.first_message = messages_[index].next;
    messages_.Release(index);
  }
}

}  // namespace oxmem::channel
