#include "rdma/nex/handshake.h"

#include <array>
#include <bit>
#include <cstring>
#include <span>

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

Handshake::Handshake(std::uint32_t own_qpn, std::uint32_t peer_qpn, std::uint64_t nonce,
                     const std::string& secret)
    : own_qpn_(own_qpn), peer_qpn_(peer_qpn), nonce_(nonce), keyed_(!secret.empty()) {
  if (!keyed_) return;
  // Two hashes under fixed keys spread a secret of any length over the 128-bit key.
  static constexpr std::uint64_t kFirst[2] = {0x6e65782d6b657931, 0x6f786d656d2d6e65};
  static constexpr std::uint64_t kSecond[2] = {0x6e65782d6b657932, 0x6f786d656d2d6e65};
  key_[0] = KeyedHash(kFirst, secret.data(), secret.size());
  key_[1] = KeyedHash(kSecond, secret.data(), secret.size());
}

std::uint64_t Handshake::Proof(GreetingType type, std::uint64_t first, std::uint64_t second) const {
  if (!keyed_) return 0;
  // Both sides hash the same picture: the type says whose proof it is.
  const std::uint32_t connecting = accepting_ ? peer_qpn_ : own_qpn_;
  const std::uint32_t accepting = accepting_ ? own_qpn_ : peer_qpn_;
  std::array<std::byte, 25> text;
  ByteWriter writer(text);
  writer.WriteBigEndian(static_cast<std::uint8_t>(type));
  writer.WriteBigEndian(connecting);
  writer.WriteBigEndian(accepting);
  writer.WriteBigEndian(first);
  writer.WriteBigEndian(second);
  return KeyedHash(key_, text.data(), text.size());
}

Greeting Handshake::Make(GreetingType type) const {
  Greeting greeting;
  greeting.type = type;
  greeting.source_qpn = own_qpn_;
  greeting.destination_qpn = peer_qpn_;
  greeting.nonce = nonce_;
  greeting.peer_nonce = peer_nonce_;
  if (type != GreetingType::kConfirm) greeting.host = host_;
  if (type == GreetingType::kWelcome) greeting.proof = Proof(type, peer_nonce_, nonce_);
  if (type == GreetingType::kConfirm) greeting.proof = Proof(type, nonce_, peer_nonce_);
  return greeting;
}

bool Handshake::Fits(const Greeting& greeting, GreetingType type) const {
  return greeting.type == type && greeting.source_qpn == peer_qpn_ &&
         greeting.destination_qpn == own_qpn_;
}

std::uint64_t Handshake::connection() const {
  const std::uint64_t connecting = accepting_ ? peer_nonce_ : nonce_;
  const std::uint64_t accepting = accepting_ ? nonce_ : peer_nonce_;
  return (connecting ^ std::rotl(accepting, 32)) | 1;
}

Greeting Handshake::Hello() const { return Make(GreetingType::kHello); }

std::optional<Greeting> Handshake::OnHello(const Greeting& hello) {
  accepting_ = true;
  if (!Fits(hello, GreetingType::kHello) || hello.peer_nonce != 0) return std::nullopt;
  peer_nonce_ = hello.nonce;
  peer_host_ = hello.host;
  return Make(GreetingType::kWelcome);
}

std::optional<Greeting> Handshake::OnWelcome(const Greeting& welcome) {
  if (!Fits(welcome, GreetingType::kWelcome) || welcome.peer_nonce != nonce_) return std::nullopt;
  peer_nonce_ = welcome.nonce;
  peer_host_ = welcome.host;
  if (welcome.proof != Proof(GreetingType::kWelcome, nonce_, peer_nonce_)) return std::nullopt;
  return Make(GreetingType::kConfirm);
}

bool Handshake::OnConfirm(const Greeting& confirm) const {
  return Fits(confirm, GreetingType::kConfirm) && confirm.nonce == peer_nonce_ &&
         confirm.peer_nonce == nonce_ &&
         confirm.proof == Proof(GreetingType::kConfirm, peer_nonce_, nonce_);
}

}  // namespace oxmem::nex
