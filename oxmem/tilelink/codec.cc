#include "oxmem/tilelink/codec.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "oxmem/tilelink/swap_copy.h"
#include "transport/base/byte_order.h"
#include "transport/base/check.h"

namespace oxmem::tilelink {
namespace {

constexpr std::size_t kMaskedGroupBytes = 64;
constexpr std::size_t kMaskedGroupFlits = 1 + kMaskedGroupBytes / kFlitBytes;

// Bit positions of the header flit (OmniXtend 1.0.3, figures 11 to 14).
constexpr int kChannelShift = 60;
constexpr int kOpcodeShift = 57;
constexpr int kParamShift = 52;
constexpr int kSizeShift = 48;
constexpr int kDomainShift = 40;
constexpr uint64_t kDeniedBit = uint64_t{1} << 39;
constexpr uint64_t kCorruptBit = uint64_t{1} << 38;
constexpr uint64_t kIdMask = kMaxSource;

uint64_t EncodeHeader(const Message& message) {
  const uint64_t channel = static_cast<uint64_t>(message.channel) << kChannelShift;
  if (message.channel == Channel::kE) return channel | message.sink;
  return channel | uint64_t{message.opcode} << kOpcodeShift |
         uint64_t{message.param} << kParamShift | uint64_t{message.size} << kSizeShift |
         uint64_t{message.domain} << kDomainShift | (message.denied ? kDeniedBit : 0) |
         (message.corrupt ? kCorruptBit : 0) | message.source;
}

// False for padding and the reserved channels.
bool DecodeHeader(uint64_t flit, Message* message) {
  const unsigned channel = (flit >> kChannelShift) & 7;
  if (channel < static_cast<unsigned>(Channel::kA) || channel > static_cast<unsigned>(Channel::kE))
    return false;
  message->channel = static_cast<Channel>(channel);
  if (message->channel == Channel::kE) {
    message->sink = static_cast<uint32_t>(flit & kIdMask);
    return true;
  }
  message->opcode = (flit >> kOpcodeShift) & 7;
  message->param = (flit >> kParamShift) & 15;
  message->size = (flit >> kSizeShift) & 15;
  message->domain = (flit >> kDomainShift) & 0xff;
  message->denied = (flit & kDeniedBit) != 0;
  message->corrupt = (flit & kCorruptBit) != 0;
  message->source = static_cast<uint32_t>(flit & kIdMask);
  return true;
}

// Whole flits, a multiple of 8 bytes.
void CopyFlits(const std::byte* from, std::byte* to, std::size_t bytes, DataOrder order) {
  switch (order) {
    case DataOrder::kMemory:
      std::memcpy(to, from, bytes);
      return;
    case DataOrder::kSpec:
      SwapCopy(from, to, bytes);
      return;
  }
}

// Where byte lane `lane` of a flit travels.
std::size_t PositionOfLane(std::size_t lane, DataOrder order) {
  return order == DataOrder::kMemory ? lane : kFlitBytes - 1 - lane;
}

// Endpoints that copy memory as it lies copy it to the front of the flit, whatever the address.
std::size_t FirstLane(const Message& message, DataOrder order) {
  if (message.size >= 3 || order == DataOrder::kMemory) return 0;
  return message.address & (kFlitBytes - 1) & ~((1u << message.size) - 1);
}

void EncodeLanes(const Message& message, std::span<const std::byte> data, DataOrder order,
                 std::byte* flit) {
  std::memset(flit, 0, kFlitBytes);
  const std::size_t first = FirstLane(message, order);
  for (std::size_t i = 0; i < data.size(); ++i) flit[PositionOfLane(first + i, order)] = data[i];
}

void EncodeMasked(const Message& message, const MemoryPayload& payload, DataOrder order,
                  std::byte* to) {
  if (message.size < 3) {
    const uint64_t valid = (uint64_t{1} << payload.data.size()) - 1;
    StoreBigEndian(to, (payload.mask[0] & valid) << FirstLane(message, order));
    EncodeLanes(message, payload.data, order, to + kFlitBytes);
    return;
  }
  for (std::size_t done = 0; done < payload.data.size(); done += kMaskedGroupBytes) {
    const std::size_t count = std::min(kMaskedGroupBytes, payload.data.size() - done);
    uint64_t mask = payload.mask[done / kMaskedGroupBytes];
    if (count < kMaskedGroupBytes) mask &= (uint64_t{1} << count) - 1;
    StoreBigEndian(to, mask);
    CopyFlits(payload.data.data() + done, to + kFlitBytes, count, order);
    to += kFlitBytes + count;
  }
}

// Copies those of `count` bytes whose mask bit is set, from flits in wire order.
void CopyGroup(const std::byte* flits, uint64_t mask, std::size_t count, DataOrder order,
               std::byte* to) {
  const uint64_t all = count == kMaskedGroupBytes ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
  mask &= all;
  if (mask == all) {
    CopyFlits(flits, to, count, order);
    return;
  }
  for (std::size_t flit = 0; flit < count; flit += kFlitBytes) {
    const auto lanes = static_cast<uint8_t>(mask >> flit);
    if (lanes == 0xff) {
      CopyFlits(flits + flit, to + flit, kFlitBytes, order);
      continue;
    }
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
      const auto lane = static_cast<std::size_t>(std::countr_zero(rest));
      to[flit + lane] = flits[flit + PositionOfLane(lane, order)];
    }
  }
}

}  // namespace

std::optional<DecodedMessage> DecodeMessage(std::span<const std::byte> flits) {
  std::optional<DecodedMessage> decoded(std::in_place);
  if (!DecodeMessage(flits, &*decoded)) decoded.reset();
  return decoded;
}

// In place, as a copy of what was just put together byte by byte costs more than the decoding.
bool DecodeMessage(std::span<const std::byte> flits, DecodedMessage* to) {
  if (flits.size() < kFlitBytes) return false;
  Message& message = to->message;
  message = Message{};
  if (!DecodeHeader(LoadBigEndian<uint64_t>(flits.data()), &message)) return false;
  const uint8_t form = internal::FormOf(message);
  if (form == 0) return false;
  to->flit_count = internal::FlitsOf(form, message.size);
  const std::size_t bytes = to->flit_count * kFlitBytes;
  if (bytes > flits.size()) return false;
  std::size_t offset = kFlitBytes;
  if ((form & internal::kAddress) != 0) {
    message.address = LoadBigEndian<uint64_t>(flits.data() + offset);
    offset += kFlitBytes;
  } else if ((form & internal::kSinkFlit) != 0) {
    message.sink = static_cast<uint32_t>(LoadBigEndian<uint64_t>(flits.data() + offset) & kIdMask);
    offset += kFlitBytes;
  }
  to->payload.flits = flits.subspan(offset, bytes - offset);
  to->malformed = false;
  return true;
}

std::optional<DecodedMessage> DecodeMalformed(std::span<const std::byte> flits) {
  if (flits.size() < kFlitBytes) return std::nullopt;
  std::optional<DecodedMessage> decoded(std::in_place);
  if (!DecodeHeader(LoadBigEndian<uint64_t>(flits.data()), &decoded->message)) return std::nullopt;
  decoded->flit_count = 1;
  decoded->malformed = true;
  decoded->payload.flits = flits.subspan(kFlitBytes, 0);
  return decoded;
}

std::size_t EncodeMessage(const Message& message, const MemoryPayload& payload, DataOrder order,
                          std::span<std::byte> to) {
  OXMEM_CHECK(IsKnown(message) && message.size <= 15 && message.param <= 15);
  OXMEM_CHECK(message.source <= kMaxSource && message.sink <= kMaxSink);
  const uint8_t form = internal::FormOf(message);
  const std::size_t flits = internal::FlitsOf(form, message.size);
  OXMEM_CHECK(to.size() >= flits * kFlitBytes);
  OXMEM_CHECK(payload.data.size() == DataBytes(message));
  std::byte* out = to.data();
  StoreBigEndian(out, EncodeHeader(message));
  out += kFlitBytes;
  if ((form & internal::kAddress) != 0) {
    StoreBigEndian(out, message.address);
    out += kFlitBytes;
  } else if ((form & internal::kSinkFlit) != 0) {
    StoreBigEndian(out, uint64_t{message.sink});
    out += kFlitBytes;
  }
  if (payload.data.empty()) return flits;
  if (HasMask(message)) {
    const std::size_t groups = (payload.data.size() + kMaskedGroupBytes - 1) / kMaskedGroupBytes;
    OXMEM_CHECK(payload.mask.size() >= groups);
    EncodeMasked(message, payload, order, out);
  } else if (message.size < 3) {
    EncodeLanes(message, payload.data, order, out);
  } else {
    CopyFlits(payload.data.data(), out, payload.data.size(), order);
  }
  return flits;
}

void SpoilMessage(std::span<std::byte> flits) {
  OXMEM_CHECK(flits.size() >= kFlitBytes);
  const uint64_t header = LoadBigEndian<uint64_t>(flits.data());
  StoreBigEndian(flits.data(), header | kDeniedBit | kCorruptBit);
}

void CopyData(const Message& message, const WirePayload& payload, DataOrder order,
              std::span<std::byte> to) {
  OXMEM_CHECK(HasData(message) && to.size() == DataBytes(message));
  const std::byte* from = payload.flits.data();
  if (message.size < 3) {
    if (HasMask(message)) from += kFlitBytes;
    const std::size_t first = FirstLane(message, order);
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[PositionOfLane(first + i, order)];
    return;
  }
  if (!HasMask(message)) {
    OXMEM_CHECK(payload.flits.size() == to.size());
    CopyFlits(from, to.data(), to.size(), order);
    return;
  }
  for (std::size_t done = 0; done < to.size(); done += kMaskedGroupBytes) {
    const std::size_t count = std::min(kMaskedGroupBytes, to.size() - done);
    CopyFlits(from + kFlitBytes, to.data() + done, count, order);
    from += kMaskedGroupFlits * kFlitBytes;
  }
}

void CopyMaskedData(const Message& message, const WirePayload& payload, DataOrder order,
                    std::span<std::byte> to) {
  OXMEM_CHECK(HasMask(message) && to.size() == DataBytes(message));
  const std::byte* from = payload.flits.data();
  if (message.size < 3) {
    const std::size_t first = FirstLane(message, order);
    const uint64_t mask = LoadBigEndian<uint64_t>(from) >> first;
    for (std::size_t i = 0; i < to.size(); ++i)
      if ((mask >> i & 1) != 0) to[i] = from[kFlitBytes + PositionOfLane(first + i, order)];
    return;
  }
  for (std::size_t done = 0; done < to.size(); done += kMaskedGroupBytes) {
    const std::size_t count = std::min(kMaskedGroupBytes, to.size() - done);
    CopyGroup(from + kFlitBytes, LoadBigEndian<uint64_t>(from), count, order, to.data() + done);
    from += kMaskedGroupFlits * kFlitBytes;
  }
}

}  // namespace oxmem::tilelink
