#include "rdma/nex/handshake.h"

#include <array>
#include <bit>

#include "transport/base/byte_order.h"

namespace oxmem::nex {

Handshake::Handshake(std::uint32_t own_qpn, std::uint32_t peer_qpn, std::uint64_t nonce,
                     const std::string& secret)
    : own_qpn_(own_qpn), peer_qpn_(peer_qpn), nonce_(nonce), key_(secret) {}

std::uint64_t Handshake::Proof(GreetingType type, std::uint64_t first, std::uint64_t second) const {
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
  return key_.Proof(text);
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
