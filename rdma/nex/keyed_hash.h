#ifndef RDMA_NEX_KEYED_HASH_H_
#define RDMA_NEX_KEYED_HASH_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace oxmem::nex {

// SipHash-2-4.
std::uint64_t KeyedHash(const std::uint64_t (&key)[2], const void* data, std::size_t size);

// What two ends that share a secret prove to each other that they know it with.
class SecretKey {
 public:
  SecretKey() = default;
  explicit SecretKey(const std::string& secret);

  // 0 without a secret.
  std::uint64_t Proof(std::span<const std::byte> text) const;

 private:
  std::uint64_t key_[2] = {0, 0};
  bool keyed_ = false;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_KEYED_HASH_H_
