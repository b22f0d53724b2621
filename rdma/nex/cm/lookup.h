#ifndef RDMA_NEX_CM_LOOKUP_H_
#define RDMA_NEX_CM_LOOKUP_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace oxmem::nex {

// Where a number of the connection manager is served (docs/nex-wire.md): a UDP datagram to the
// number asks for it, and one of the same size answers with a TCP port.
inline constexpr std::size_t kCmLookupBytes = 32;

struct CmLookup {
  bool answers = false;
  std::uint64_t nonce = 0;   // of the asker
  std::uint16_t port = 0;    // of an answer; 0: nobody listens
  std::uint64_t ticket = 0;  // of an answer with a port: for the request

  friend bool operator==(const CmLookup&, const CmLookup&) = default;
};

void EncodeLookup(const CmLookup& lookup, std::span<std::byte, kCmLookupBytes> out);
// Of any number of bytes: only those of the one size can be right.
std::optional<CmLookup> DecodeLookup(std::span<const std::byte> in);

// A ticket says that its bearer has asked from the number that it says is its own: the answer went
// there. Nothing is kept of those that were given, so one is good for as long as the key is.
class CmTickets {
 public:
  using Address = std::array<std::uint8_t, 16>;
  CmTickets(std::uint64_t first, std::uint64_t second) : key_{first, second} {}
  std::uint64_t For(const Address& asker, std::uint16_t number, const Address& own,
                    std::uint16_t own_number) const;

 private:
  std::uint64_t key_[2];
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_CM_LOOKUP_H_
