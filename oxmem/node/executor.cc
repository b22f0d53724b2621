#include "oxmem/node/executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "transport/base/byte_order.h"

namespace oxmem::node {
namespace {

using tilelink::Channel;
using tilelink::DataOrder;
using tilelink::DecodedMessage;
using tilelink::Message;
using tilelink::OpcodeA;
using tilelink::OpcodeC;
using tilelink::OpcodeD;

constexpr uint64_t kPageBytes = 4096;
constexpr uint8_t kGrantToN = 2;  // TileLink 1.8.0 section 8.2: Cap toN
constexpr uint8_t kLargestOperandSize = 3;

// What a denied read has to carry: TileLink wants all its beats, marked corrupt (section 4.5).
alignas(64) constexpr std::array<std::byte, 1 << 15> kZeroes{};

// What an operation is answered with, before anything is known of how it went.
OpcodeD AnswerOpcode(const Message& request, const ExecutorLimits& limits) {
  if (request.channel == Channel::kC) return OpcodeD::kReleaseAck;
  switch (static_cast<OpcodeA>(request.opcode)) {
    case OpcodeA::kGet:
    case OpcodeA::kArithmeticData:
    case OpcodeA::kLogicalData:
      // Data that fits no frame cannot be sent, denied or not; the refusal goes without it.
      return request.size <= limits.largest_data_size ? OpcodeD::kAccessAckData
                                                      : OpcodeD::kAccessAck;
    case OpcodeA::kPutFullData:
    case OpcodeA::kPutPartialData:
      return OpcodeD::kAccessAck;
    case OpcodeA::kIntent:
      return OpcodeD::kHintAck;
    case OpcodeA::kAcquireBlock:
    case OpcodeA::kAcquirePerm:
      return OpcodeD::kGrant;
  }
  return OpcodeD::kAccessAck;
}

Message AnswerHeader(const Message& request, const ExecutorLimits& limits) {
  Message answer = tilelink::MakeD(AnswerOpcode(request, limits), request.size, request.source);
  answer.domain = request.domain;
  answer.address = request.address;  // not sent; names the byte lanes of data below 8 bytes
  return answer;
}

Answer Deny(const Message& request, const ExecutorLimits& limits) {
  Answer answer{AnswerHeader(request, limits), {}, nullptr};
  answer.message.denied = true;
  if (static_cast<OpcodeD>(answer.message.opcode) == OpcodeD::kGrant) {
    answer.message.param = kGrantToN;
  }
  if (tilelink::HasData(answer.message)) {
    answer.message.corrupt = true;
    answer.payload.data = std::span(kZeroes).first(tilelink::DataBytes(answer.message));
  }
  return answer;
}

template <typename T>
T Combine(const Message& request, T old_value, T operand) {
  using Signed = std::make_signed_t<T>;
  const auto smaller = [](auto a, auto b) { return b < a ? b : a; };
  const auto larger = [](auto a, auto b) { return a < b ? b : a; };
  if (static_cast<OpcodeA>(request.opcode) == OpcodeA::kArithmeticData) {
    const Signed a = static_cast<Signed>(old_value);
    const Signed b = static_cast<Signed>(operand);
    switch (static_cast<tilelink::ArithmeticParam>(request.param)) {
      case tilelink::ArithmeticParam::kMin:
        return static_cast<T>(smaller(a, b));
      case tilelink::ArithmeticParam::kMax:
        return static_cast<T>(larger(a, b));
      case tilelink::ArithmeticParam::kMinU:
        return smaller(old_value, operand);
      case tilelink::ArithmeticParam::kMaxU:
        return larger(old_value, operand);
      case tilelink::ArithmeticParam::kAdd:
        return static_cast<T>(old_value + operand);
    }
  }
  switch (static_cast<tilelink::LogicalParam>(request.param)) {
    case tilelink::LogicalParam::kXor:
      return static_cast<T>(old_value ^ operand);
    case tilelink::LogicalParam::kOr:
      return static_cast<T>(old_value | operand);
    case tilelink::LogicalParam::kAnd:
      return static_cast<T>(old_value & operand);
    case tilelink::LogicalParam::kSwap:
      return operand;
  }
  return old_value;
}

// Atomic towards every other user of the memory, as processes of this host may map it too.
template <typename T>
void Apply(const Message& request, std::byte* at, const std::byte* operand_bytes,
           std::byte* old_bytes) {
  T* word = reinterpret_cast<T*>(at);  // aligned: Admit has refused everything else
  T operand;
  std::memcpy(&operand, operand_bytes, sizeof operand);
  T old_value = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(word, &old_value, Combine(request, old_value, operand), false,
                                      __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
  }
  std::memcpy(old_bytes, &old_value, sizeof old_value);
}

bool IsKnownOperation(const Message& request) {
  if (static_cast<OpcodeA>(request.opcode) == OpcodeA::kArithmeticData) {
    return request.param <= static_cast<uint8_t>(tilelink::ArithmeticParam::kAdd);
  }
  return request.param <= static_cast<uint8_t>(tilelink::LogicalParam::kSwap);
}

}  // namespace

bool Executor::WantsAnswer(const Message& request) {
  switch (request.channel) {
    case Channel::kA:
      return true;
    case Channel::kC: {
      const auto opcode = static_cast<OpcodeC>(request.opcode);
      return opcode == OpcodeC::kRelease || opcode == OpcodeC::kReleaseData;
    }
    case Channel::kB:
    case Channel::kD:
    case Channel::kE:
      return false;
  }
  return false;
}

std::size_t Executor::AnswerFlits(const Message& request, const ExecutorLimits& limits) {
  return tilelink::FlitsOf(tilelink::MakeD(AnswerOpcode(request, limits), request.size, 0));
}

Answer Executor::Execute(const DecodedMessage& request, DataOrder order,
                         const ExecutorLimits& limits) {
  const Message& message = request.message;
  if (request.malformed) {
    stats_.denied_malformed.Increment();
    return Deny(message, limits);
  }
  if (message.channel == Channel::kA) {
    switch (static_cast<OpcodeA>(message.opcode)) {
      case OpcodeA::kGet:
        return Read(message, limits);
      case OpcodeA::kPutFullData:
      case OpcodeA::kPutPartialData:
        return Write(request, order, limits);
      case OpcodeA::kArithmeticData:
      case OpcodeA::kLogicalData:
        return ReadModifyWrite(request, order, limits);
      case OpcodeA::kIntent:
        return Hint(message, limits);
      case OpcodeA::kAcquireBlock:
      case OpcodeA::kAcquirePerm:
        break;
    }
  }
  stats_.denied_unsupported.Increment();
  return Deny(message, limits);
}

const Region* Executor::Admit(const Message& request, const ExecutorLimits& limits, bool modifies) {
  const uint64_t length = uint64_t{1} << request.size;
  if (request.corrupt || (request.address % length != 0 && !limits.allow_misaligned)) {
    stats_.denied_malformed.Increment();
    return nullptr;
  }
  const Region* region = regions_->Find(request.address, length);
  if (region == nullptr) {
    stats_.denied_range.Increment();
    return nullptr;
  }
  if (modifies && region->read_only) {
    stats_.denied_read_only.Increment();
    return nullptr;
  }
  if (region->guard != nullptr && !region->guard->Admits(request.address - region->base, length)) {
    stats_.denied_lost.Increment();
    return nullptr;
  }
  return region;
}

Answer Executor::Checked(const Message& request, const ExecutorLimits& limits, const Region& region,
                         const Answer& answer) {
  if (region.guard == nullptr ||
      region.guard->Holds(request.address - region.base, uint64_t{1} << request.size)) {
    return answer;
  }
  region.guard->Look();
  stats_.denied_lost.Increment();
  return Deny(request, limits);
}

bool Executor::IsIntact(const Answer& answer) {
  if (answer.region == nullptr) return true;
  const auto offset =
      static_cast<uint64_t>(answer.payload.data.data() - answer.region->memory.data());
  if (answer.region->guard->Holds(offset, answer.payload.data.size())) return true;
  answer.region->guard->Look();
  stats_.denied_lost.Increment();
  return false;
}

Answer Executor::Read(const Message& request, const ExecutorLimits& limits) {
  if (request.size > limits.largest_data_size) {
    stats_.denied_unsupported.Increment();
    return Deny(request, limits);
  }
  const Region* region = Admit(request, limits, /*modifies=*/false);
  if (region == nullptr) return Deny(request, limits);
  Answer answer{AnswerHeader(request, limits), {}, nullptr};
  const std::size_t length = std::size_t{1} << request.size;
  answer.payload.data = region->memory.subspan(request.address - region->base, length);
  if (region->guard != nullptr) answer.region = region;
  stats_.reads.Increment();
  stats_.read_bytes.Add(length);
  return answer;
}

Answer Executor::Write(const DecodedMessage& request, DataOrder order,
                       const ExecutorLimits& limits) {
  const Message& message = request.message;
  const Region* region = Admit(message, limits, /*modifies=*/true);
  if (region == nullptr) return Deny(message, limits);
  const std::size_t length = std::size_t{1} << message.size;
  const auto to = region->memory.subspan(message.address - region->base, length);
  if (tilelink::HasMask(message)) {
    tilelink::CopyMaskedData(message, request.payload, order, to);
  } else {
    tilelink::CopyData(message, request.payload, order, to);
  }
  stats_.writes.Increment();
  stats_.write_bytes.Add(length);
  return Checked(message, limits, *region, Answer{AnswerHeader(message, limits), {}, nullptr});
}

Answer Executor::ReadModifyWrite(const DecodedMessage& request, DataOrder order,
                                 const ExecutorLimits& limits) {
  const Message& message = request.message;
  if (message.size > kLargestOperandSize || !IsKnownOperation(message)) {
    stats_.denied_unsupported.Increment();
    return Deny(message, limits);
  }
  ExecutorLimits aligned = limits;
  aligned.allow_misaligned = false;  // an atomic operation on a misaligned word is none
  const Region* region = Admit(message, aligned, /*modifies=*/true);
  if (region == nullptr) return Deny(message, limits);

  const std::size_t length = std::size_t{1} << message.size;
  std::array<std::byte, 8> operand{};
  tilelink::CopyData(message, request.payload, order, std::span(operand).first(length));
  std::byte* at = region->memory.data() + (message.address - region->base);
  switch (length) {
    case 1:
      Apply<uint8_t>(message, at, operand.data(), old_value_.data());
      break;
    case 2:
      Apply<uint16_t>(message, at, operand.data(), old_value_.data());
      break;
    case 4:
      Apply<uint32_t>(message, at, operand.data(), old_value_.data());
      break;
    default:
      Apply<uint64_t>(message, at, operand.data(), old_value_.data());
      break;
  }
  Answer answer{AnswerHeader(message, limits), {}, nullptr};
  answer.payload.data = std::span(old_value_).first(length);
  stats_.atomics.Increment();
  return Checked(message, limits, *region, answer);
}

Answer Executor::Hint(const Message& request, const ExecutorLimits& limits) {
  if (request.param > static_cast<uint8_t>(tilelink::IntentParam::kPrefetchWrite)) {
    stats_.denied_unsupported.Increment();
    return Deny(request, limits);
  }
  const Region* region = Admit(request, limits, /*modifies=*/false);
  if (region == nullptr) return Deny(request, limits);
  if (region->prefetchable) {
    const uint64_t offset = request.address - region->base;
    const uint64_t first = offset / kPageBytes * kPageBytes;
    const uint64_t length = offset + (uint64_t{1} << request.size) - first;
    madvise(region->memory.data() + first, length, MADV_WILLNEED);  // a hint: it may fail
  }
  stats_.hints.Increment();
  return Answer{AnswerHeader(request, limits), {}, nullptr};
}

}  // namespace oxmem::node
