#include "rdma/nex/cm/lookup.h"

#include "rdma/nex/cm/message.h"
#include "rdma/nex/keyed_hash.h"
#include "transport/base/byte_order.h"

namespace oxmem::nex {
namespace {
constexpr std::uint32_t kLookupMagic = 0x6e65786c;  // "nexl"
constexpr std::uint8_t kQuestion = 1;
constexpr std::uint8_t kAnswer = 2;
}  // namespace

void EncodeLookup(const CmLookup& lookup, std::span<std::byte, kCmLookupBytes> out) {
  ByteWriter writer(out);
  writer.WriteBigEndian(kLookupMagic);
  writer.WriteBigEndian(kCmVersion);
  writer.WriteBigEndian(lookup.answers ? kAnswer : kQuestion);
  writer.WriteBigEndian(std::uint8_t{0});
  writer.WriteBigEndian(lookup.nonce);
  writer.WriteBigEndian(lookup.port);
  writer.WriteBigEndian(std::uint16_t{0});
  writer.WriteBigEndian(std::uint32_t{0});
  writer.WriteBigEndian(lookup.ticket);
}

std::optional<CmLookup> DecodeLookup(std::span<const std::byte> in) {
  if (in.size() != kCmLookupBytes) return std::nullopt;
  ByteReader reader(in);
  const auto u8 = [&reader] { return *reader.ReadBigEndian<std::uint8_t>(); };
  const auto u16 = [&reader] { return *reader.ReadBigEndian<std::uint16_t>(); };
  const auto u32 = [&reader] { return *reader.ReadBigEndian<std::uint32_t>(); };
  const auto u64 = [&reader] { return *reader.ReadBigEndian<std::uint64_t>(); };
  if (u32() != kLookupMagic || u16() != kCmVersion) return std::nullopt;
  const std::uint8_t type = u8();
  if (type != kQuestion && type != kAnswer) return std::nullopt;
  if (u8() != 0) return std::nullopt;
  CmLookup lookup;
  lookup.answers = type == kAnswer;
  lookup.nonce = u64();
  lookup.port = u16();
  if (u16() != 0 || u32() != 0) return std::nullopt;
  lookup.ticket = u64();
  if (!lookup.answers && lookup.port != 0) return std::nullopt;
  if (lookup.port == 0 && lookup.ticket != 0) return std::nullopt;
  return lookup;
}

std::uint64_t CmTickets::For(const Address& asker, std::uint16_t number, const Address& own,
                             std::uint16_t own_number) const {
  std::array<std::byte, 36> text;
  ByteWriter writer(text);
  writer.WriteBytes(std::as_bytes(std::span(asker)));
  writer.WriteBigEndian(number);
  writer.WriteBytes(std::as_bytes(std::span(own)));
  writer.WriteBigEndian(own_number);
  return KeyedHash(key_, text.data(), text.size());
}

}  // namespace oxmem::nex
