#include "rdma/nex/keyed_hash.h"

#include <bit>

#include "transport/base/byte_order.h"

namespace oxmem::nex {

std::uint64_t KeyedHash(const std::uint64_t (&key)[2], const void* data, std::size_t size) {
  std::uint64_t v0 = key[0] ^ 0x736f6d6570736575u, v1 = key[1] ^ 0x646f72616e646f6du;
  std::uint64_t v2 = key[0] ^ 0x6c7967656e657261u, v3 = key[1] ^ 0x7465646279746573u;
  const auto round = [&] {
    v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
    v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
  };
  const auto absorb = [&](std::uint64_t word) {
    v3 ^= word;
    round(), round();
    v0 ^= word;
  };
  const auto* bytes = static_cast<const std::byte*>(data);
  std::size_t at = 0;
  for (; at + 8 <= size; at += 8) absorb(LoadLittleEndian<std::uint64_t>(bytes + at));
  std::uint64_t last = static_cast<std::uint64_t>(size) << 56;
  for (std::size_t i = 0; at + i < size; ++i) {
    last |= std::to_integer<std::uint64_t>(bytes[at + i]) << (8 * i);
  }
  absorb(last);
  v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

SecretKey::SecretKey(const std::string& secret) : keyed_(!secret.empty()) {
  if (!keyed_) return;
  // Two hashes under fixed keys spread a secret of any length over the 128-bit key.
  static constexpr std::uint64_t kFirst[2] = {0x6e65782d6b657931, 0x6f786d656d2d6e65};
  static constexpr std::uint64_t kSecond[2] = {0x6e65782d6b657932, 0x6f786d656d2d6e65};
  key_[0] = KeyedHash(kFirst, secret.data(), secret.size());
  key_[1] = KeyedHash(kSecond, secret.data(), secret.size());
}

std::uint64_t SecretKey::Proof(std::span<const std::byte> text) const {
  return keyed_ ? KeyedHash(key_, text.data(), text.size()) : 0;
}

}  // namespace oxmem::nex
