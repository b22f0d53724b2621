#include "rdma/nex/cm/message.h"

#include <cstring>

#include "transport/base/byte_order.h"

namespace oxmem::nex {
namespace {
constexpr std::uint32_t kCmMagic = 0x6e657863;  // "nexc"
}  // namespace

std::size_t MaxPrivateBytes(CmMessageType type, CmService service) {
  const bool datagram = service == CmService::kDatagram;
  switch (type) {
    case CmMessageType::kRequest:
      return datagram ? 216 : 92;
    case CmMessageType::kReply:
      return datagram ? 136 : 196;
    case CmMessageType::kReject:
      return datagram ? 136 : 148;
    case CmMessageType::kReadyToUse:
    case CmMessageType::kDisconnect:
      return 0;
  }
  return 0;
}

void EncodeCm(const CmMessage& message, std::span<std::byte, kCmMessageBytes> out) {
  ByteWriter writer(out);
  writer.WriteBigEndian(kCmMagic);
  writer.WriteBigEndian(kCmVersion);
  writer.WriteBigEndian(static_cast<std::uint8_t>(message.type));
  writer.WriteBigEndian(static_cast<std::uint8_t>(message.service));
  writer.WriteBigEndian(message.qpn);
  writer.WriteBigEndian(message.queue_key);
  writer.WriteBigEndian(message.srq);
  writer.WriteBigEndian(message.responder_resources);
  writer.WriteBigEndian(message.initiator_depth);
  writer.WriteBigEndian(message.flow_control);
  writer.WriteBigEndian(message.retry_count);
  writer.WriteBigEndian(message.rnr_retry_count);
  writer.WriteBigEndian(message.private_length);
  writer.WriteBigEndian(std::uint8_t{0});
  writer.WriteBytes(std::as_bytes(std::span(message.source)));
  writer.WriteBytes(std::as_bytes(std::span(message.destination)));
  writer.WriteBigEndian(message.source_port);
  writer.WriteBigEndian(message.destination_port);
  writer.WriteBigEndian(std::uint32_t{0});
  writer.WriteBigEndian(message.ticket);
  writer.WriteBytes(std::as_bytes(std::span(message.private_data)));
  writer.WriteBigEndian(message.proof);
}

std::optional<CmMessage> DecodeCm(std::span<const std::byte, kCmMessageBytes> in) {
  ByteReader reader(in);
  const auto u8 = [&reader] { return *reader.ReadBigEndian<std::uint8_t>(); };
  const auto u16 = [&reader] { return *reader.ReadBigEndian<std::uint16_t>(); };
  const auto u32 = [&reader] { return *reader.ReadBigEndian<std::uint32_t>(); };
  if (u32() != kCmMagic || u16() != kCmVersion) return std::nullopt;
  CmMessage message;
  const std::uint8_t type = u8();
  const std::uint8_t service = u8();
  if (type < 1 || type > 5 || service > 3) return std::nullopt;
  message.type = static_cast<CmMessageType>(type);
  message.service = static_cast<CmService>(service);
  message.qpn = u32();
  message.queue_key = u32();
  message.srq = u8();
  message.responder_resources = u8();
  message.initiator_depth = u8();
  message.flow_control = u8();
  message.retry_count = u8();
  message.rnr_retry_count = u8();
  message.private_length = u8();
  if (u8() != 0 || message.qpn > 0xffffff) return std::nullopt;
  if (message.srq > 1 || message.flow_control > 1) return std::nullopt;
  if (message.retry_count > kCmMaxRetries || message.rnr_retry_count > kCmMaxRetries) {
    return std::nullopt;
  }
  if (message.private_length > MaxPrivateBytes(message.type, message.service)) return std::nullopt;
  std::memcpy(message.source.data(), reader.ReadBytes(16)->data(), 16);
  std::memcpy(message.destination.data(), reader.ReadBytes(16)->data(), 16);
  message.source_port = u16();
  message.destination_port = u16();
  if (u32() != 0) return std::nullopt;
  message.ticket = *reader.ReadBigEndian<std::uint64_t>();
  if (message.ticket != 0 && message.type != CmMessageType::kRequest) return std::nullopt;
  std::memcpy(message.private_data.data(), reader.ReadBytes(kCmPrivateBytes)->data(),
              kCmPrivateBytes);
  message.proof = *reader.ReadBigEndian<std::uint64_t>();
  return message;
}

std::uint64_t ProofOf(const CmMessage& message, std::uint64_t ticket, const SecretKey& key) {
  CmMessage unproven = message;
  unproven.proof = 0;
  std::array<std::byte, kCmMessageBytes + sizeof ticket> text;
  EncodeCm(unproven, std::span(text).first<kCmMessageBytes>());
  ByteWriter(std::span(text).last<sizeof ticket>()).WriteBigEndian(ticket);
  return key.Proof(text);
}

}  // namespace oxmem::nex
