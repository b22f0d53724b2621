#include "transport/local/local_wire.h"

#include <algorithm>
#include <type_traits>

#include "transport/base/byte_order.h"

namespace oxmem::transport {
namespace {

constexpr uint32_t kMagic = 0x6f786d6c;  // "oxml"

enum class Type : uint8_t { kHello = 1, kOffer = 2, kFlush = 3, kFlushed = 4 };

constexpr uint8_t kReadOnlyFlag = 1;
constexpr uint8_t kPersistentFlag = 2;
constexpr std::size_t kFixedBytes = 64;  // more than the fields of any message but its text

void WriteText(ByteWriter& writer, const std::string& text) {
  const std::size_t length = std::min(text.size(), kMaxLocalTextBytes);
  writer.WriteBigEndian(static_cast<uint16_t>(length));
  writer.WriteBytes(std::as_bytes(std::span(text.data(), length)));
}

std::optional<std::string> ReadText(ByteReader& reader) {
  const auto length = reader.ReadBigEndian<uint16_t>();
  if (!length || *length > kMaxLocalTextBytes) return std::nullopt;
  const auto bytes = reader.ReadBytes(*length);
  if (!bytes) return std::nullopt;
  return std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

void WriteBody(ByteWriter& writer, const LocalHello& hello) {
  writer.WriteBigEndian(hello.lowest_version);
  writer.WriteBigEndian(hello.highest_version);
  writer.WriteBigEndian(hello.read_only ? kReadOnlyFlag : uint8_t{0});
  WriteText(writer, hello.region);
}

void WriteBody(ByteWriter& writer, const LocalOffer& offer) {
  writer.WriteBigEndian(offer.version);
  writer.WriteBigEndian(offer.error);
  writer.WriteBigEndian(static_cast<uint8_t>((offer.read_only ? kReadOnlyFlag : 0) |
                                             (offer.persistent ? kPersistentFlag : 0)));
  writer.WriteBigEndian(offer.size_bytes);
  writer.WriteBigEndian(offer.offset);
  WriteText(writer, offer.text);
}

void WriteBody(ByteWriter& writer, const LocalFlush& flush) { writer.WriteBigEndian(flush.id); }

void WriteBody(ByteWriter& writer, const LocalFlushed& flushed) {
  writer.WriteBigEndian(flushed.id);
  writer.WriteBigEndian(flushed.error);
}

Type TypeOf(const LocalMessage& message) { return static_cast<Type>(message.index() + 1); }

std::optional<LocalMessage> ReadHello(ByteReader& reader) {
  const auto lowest = reader.ReadBigEndian<uint16_t>();
  const auto highest = reader.ReadBigEndian<uint16_t>();
  const auto flags = reader.ReadBigEndian<uint8_t>();
  auto region = ReadText(reader);
  // Flags that a later version may add are not for this one to refuse.
  if (!lowest || !highest || *lowest > *highest || !flags || !region) return std::nullopt;
  return LocalHello{*lowest, *highest, (*flags & kReadOnlyFlag) != 0, *std::move(region)};
}

std::optional<LocalMessage> ReadOffer(ByteReader& reader) {
  const auto version = reader.ReadBigEndian<uint16_t>();
  const auto error = reader.ReadBigEndian<uint16_t>();
  const auto flags = reader.ReadBigEndian<uint8_t>();
  const auto size = reader.ReadBigEndian<uint64_t>();
  const auto offset = reader.ReadBigEndian<uint64_t>();
  auto text = ReadText(reader);
  if (!version || !error || !flags || !size || !offset || !text) return std::nullopt;
  return LocalOffer{.version = *version,
                    .error = *error,
                    .read_only = (*flags & kReadOnlyFlag) != 0,
                    .persistent = (*flags & kPersistentFlag) != 0,
                    .size_bytes = *size,
                    .offset = *offset,
                    .text = *std::move(text)};
}

std::optional<LocalMessage> ReadFlush(ByteReader& reader) {
  const auto id = reader.ReadBigEndian<uint64_t>();
  if (!id) return std::nullopt;
  return LocalFlush{*id};
}

std::optional<LocalMessage> ReadFlushed(ByteReader& reader) {
  const auto id = reader.ReadBigEndian<uint64_t>();
  const auto error = reader.ReadBigEndian<uint16_t>();
  if (!id || !error) return std::nullopt;
  return LocalFlushed{*id, *error};
}

}  // namespace

std::vector<std::byte> EncodeLocalMessage(const LocalMessage& message) {
  std::vector<std::byte> packet(kFixedBytes + kMaxLocalTextBytes);
  ByteWriter writer(packet);
  writer.WriteBigEndian(kMagic);
  writer.WriteBigEndian(static_cast<uint8_t>(TypeOf(message)));
  std::visit([&writer](const auto& body) { WriteBody(writer, body); }, message);
  packet.resize(packet.size() - writer.remaining());
  return packet;
}

std::optional<LocalMessage> DecodeLocalMessage(std::span<const std::byte> packet) {
  ByteReader reader(packet);
  const auto magic = reader.ReadBigEndian<uint32_t>();
  const auto type = reader.ReadBigEndian<uint8_t>();
  if (!magic || *magic != kMagic || !type) return std::nullopt;
  std::optional<LocalMessage> message;
  switch (static_cast<Type>(*type)) {
    case Type::kHello:
      message = ReadHello(reader);
      break;
    case Type::kOffer:
      message = ReadOffer(reader);
      break;
    case Type::kFlush:
      message = ReadFlush(reader);
      break;
    case Type::kFlushed:
      message = ReadFlushed(reader);
      break;
    default:
      break;
  }
  if (reader.remaining() != 0) return std::nullopt;
  return message;
}

}  // namespace oxmem::transport
