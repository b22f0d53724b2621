#ifndef RDMA_NEX_HANDSHAKE_H_
#define RDMA_NEX_HANDSHAKE_H_

#include <cstdint>
#include <optional>
#include <string>

#include "rdma/nex/keyed_hash.h"
#include "rdma/nex/wire.h"

namespace oxmem::nex {

// The greeting of one connection, from one side. Pure: nonces come from the caller.
//
//   connecting: Hello() --> OnWelcome(): Confirm or refusal
//   accepting:  OnHello(): Welcome or refusal --> OnConfirm(): open or refusal
//
// Each side proves with a keyed hash over both nonces that it knows the secret; the nonces make
// every proof good for one connection only. Without a secret the proofs are 0.
class Handshake {
 public:
  Handshake() = default;
  Handshake(std::uint32_t own_qpn, std::uint32_t peer_qpn, std::uint64_t nonce,
            const std::string& secret);
  // What the peer is told about this process; nothing unless it is on the same host.
  void set_host(const HostIdentity& host) { host_ = host; }
  const HostIdentity& peer_host() const { return peer_host_; }
  // The same number on both sides, good for this connection only; never 0.
  std::uint64_t connection() const;

  Greeting Hello() const;
  std::optional<Greeting> OnHello(const Greeting& hello);
  std::optional<Greeting> OnWelcome(const Greeting& welcome);
  bool OnConfirm(const Greeting& confirm) const;

  bool accepting() const { return accepting_; }

 private:
  std::uint64_t Proof(GreetingType type, std::uint64_t first, std::uint64_t second) const;
  Greeting Make(GreetingType type) const;
  bool Fits(const Greeting& greeting, GreetingType type) const;

  std::uint32_t own_qpn_ = 0;
  std::uint32_t peer_qpn_ = 0;
  std::uint64_t nonce_ = 0;
  std::uint64_t peer_nonce_ = 0;
  HostIdentity host_;
  HostIdentity peer_host_;
  SecretKey key_;
  bool accepting_ = false;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_HANDSHAKE_H_
