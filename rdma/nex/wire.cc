#include "rdma/nex/wire.h"

#include "transport/base/byte_order.h"

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kStreamMagic = 0x6e657873;    // "nexs"
constexpr std::uint32_t kDatagramMagic = 0x6e657864;  // "nexd"
constexpr std::uint8_t kDatagramImmediate = 2;
constexpr std::uint8_t kDatagramGrh = 4;

// The caller's spans have a fixed size, so a read cannot run out.
template <typename T>
T Take(ByteReader& reader) {
  return *reader.ReadBigEndian<T>();
}

bool KnownType(std::uint8_t type) { return (type >= 1 && type <= 8) || (type >= 32 && type <= 38); }

bool LengthFits(const FrameHeader& header) {
  switch (header.type) {
    case FrameType::kSend:
    case FrameType::kSendImmediate:
    case FrameType::kSendInvalidate:
    case FrameType::kWrite:
    case FrameType::kWriteImmediate:
    case FrameType::kRead:
    case FrameType::kReadResponse:
      return header.length <= kMaxMessageBytes;
    case FrameType::kCompareSwap:
    case FrameType::kFetchAdd:
    case FrameType::kAck:
    case FrameType::kNak:
    case FrameType::kReceiverNotReady:
    case FrameType::kReceiverReady:
    case FrameType::kAtomicResponse:
    case FrameType::kCredits:
      return header.length == 0;
  }
  return false;
}

bool DetailFits(const FrameHeader& header) {
  if (header.type == FrameType::kNak) return header.detail >= 1 && header.detail <= 3;
  if (header.type == FrameType::kReceiverNotReady) return header.detail <= 31;
  return header.detail == 0;
}

}  // namespace

bool IsRequest(FrameType type) { return static_cast<std::uint8_t>(type) < 32; }

std::uint32_t PayloadBytes(const FrameHeader& header) {
  return header.type == FrameType::kRead ? 0 : header.length;
}

void EncodeHeader(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out) {
  ByteWriter writer(out);
  writer.WriteBigEndian(static_cast<std::uint8_t>(header.type));
  writer.WriteBigEndian(header.flags);
  writer.WriteBigEndian(header.detail);
  writer.WriteBigEndian(header.sequence);
  writer.WriteBigEndian(header.length);
  writer.WriteBigEndian(header.immediate);
  writer.WriteBigEndian(header.key);
  writer.WriteBigEndian(header.srq_number);
  writer.WriteBigEndian(header.address);
  writer.WriteBigEndian(header.operand);
  writer.WriteBigEndian(header.swap);
}

std::optional<FrameHeader> DecodeHeader(std::span<const std::byte, kHeaderBytes> in) {
  ByteReader reader(in);
  FrameHeader header;
  const auto type = Take<std::uint8_t>(reader);
  if (!KnownType(type)) return std::nullopt;
  header.type = static_cast<FrameType>(type);
  header.flags = Take<std::uint8_t>(reader);
  header.detail = Take<std::uint16_t>(reader);
  header.sequence = Take<std::uint32_t>(reader);
  header.length = Take<std::uint32_t>(reader);
  header.immediate = Take<std::uint32_t>(reader);
  header.key = Take<std::uint32_t>(reader);
  header.srq_number = Take<std::uint32_t>(reader);
  header.address = Take<std::uint64_t>(reader);
  header.operand = Take<std::uint64_t>(reader);
  header.swap = Take<std::uint64_t>(reader);
  if ((header.flags & ~kFlagSolicited) != 0) return std::nullopt;
  if (!LengthFits(header) || !DetailFits(header)) return std::nullopt;
  return header;
}

void EncodeGreeting(const Greeting& greeting, std::span<std::byte, kGreetingBytes> out) {
  ByteWriter writer(out);
  writer.WriteBigEndian(kStreamMagic);
  writer.WriteBigEndian(kWireVersion);
  writer.WriteBigEndian(static_cast<std::uint8_t>(greeting.type));
  writer.WriteBigEndian(std::uint8_t{0});
  writer.WriteBigEndian(greeting.source_qpn);
  writer.WriteBigEndian(greeting.destination_qpn);
  writer.WriteBigEndian(greeting.nonce);
  writer.WriteBigEndian(greeting.peer_nonce);
  writer.WriteBigEndian(greeting.proof);
  writer.WriteBigEndian(greeting.host.pid);
  writer.WriteBigEndian(greeting.host.fd);
  writer.WriteBigEndian(greeting.host.token);
  while (writer.remaining() > 0) writer.WriteBigEndian(std::uint8_t{0});
}

std::optional<Greeting> DecodeGreeting(std::span<const std::byte, kGreetingBytes> in) {
  ByteReader reader(in);
  if (Take<std::uint32_t>(reader) != kStreamMagic) return std::nullopt;
  if (Take<std::uint16_t>(reader) != kWireVersion) return std::nullopt;
  Greeting greeting;
  const auto type = Take<std::uint8_t>(reader);
  if (type < 1 || type > 4) return std::nullopt;
  greeting.type = static_cast<GreetingType>(type);
  if (Take<std::uint8_t>(reader) != 0) return std::nullopt;
  greeting.source_qpn = Take<std::uint32_t>(reader);
  greeting.destination_qpn = Take<std::uint32_t>(reader);
  greeting.nonce = Take<std::uint64_t>(reader);
  greeting.peer_nonce = Take<std::uint64_t>(reader);
  greeting.proof = Take<std::uint64_t>(reader);
  greeting.host.pid = Take<std::uint32_t>(reader);
  greeting.host.fd = Take<std::uint32_t>(reader);
  greeting.host.token = Take<std::uint64_t>(reader);
  while (reader.remaining() > 0) {
    if (Take<std::uint8_t>(reader) != 0) return std::nullopt;
  }
  return greeting;
}

void EncodeDatagram(const DatagramHeader& header, std::span<std::byte, kDatagramHeaderBytes> out) {
  ByteWriter writer(out);
  writer.WriteBigEndian(kDatagramMagic);
  writer.WriteBigEndian(kWireVersion);
  writer.WriteBigEndian(static_cast<std::uint8_t>(header.flags |
                                                  (header.has_immediate ? kDatagramImmediate : 0) |
                                                  (header.has_grh ? kDatagramGrh : 0)));
  writer.WriteBigEndian(std::uint8_t{0});
  writer.WriteBigEndian(header.source_qpn);
  writer.WriteBigEndian(header.destination_qpn);
  writer.WriteBigEndian(header.queue_key);
  writer.WriteBigEndian(header.immediate);
  writer.WriteBytes(std::as_bytes(std::span(header.source_gid)));
  writer.WriteBytes(std::as_bytes(std::span(header.destination_gid)));
  while (writer.remaining() > 0) writer.WriteBigEndian(std::uint8_t{0});
}

std::optional<DatagramHeader> DecodeDatagram(std::span<const std::byte, kDatagramHeaderBytes> in) {
  ByteReader reader(in);
  if (Take<std::uint32_t>(reader) != kDatagramMagic) return std::nullopt;
  if (Take<std::uint16_t>(reader) != kWireVersion) return std::nullopt;
  DatagramHeader header;
  const auto flags = Take<std::uint8_t>(reader);
  if ((flags & ~(kFlagSolicited | kDatagramImmediate | kDatagramGrh)) != 0) return std::nullopt;
  header.flags = flags & kFlagSolicited;
  header.has_immediate = (flags & kDatagramImmediate) != 0;
  header.has_grh = (flags & kDatagramGrh) != 0;
  if (Take<std::uint8_t>(reader) != 0) return std::nullopt;
  header.source_qpn = Take<std::uint32_t>(reader);
  header.destination_qpn = Take<std::uint32_t>(reader);
  header.queue_key = Take<std::uint32_t>(reader);
  header.immediate = Take<std::uint32_t>(reader);
  for (auto& byte : header.source_gid) byte = Take<std::uint8_t>(reader);
  for (auto& byte : header.destination_gid) byte = Take<std::uint8_t>(reader);
  while (reader.remaining() > 0) {
    if (Take<std::uint8_t>(reader) != 0) return std::nullopt;
  }
  return header;
}

}  // namespace oxmem::nex
