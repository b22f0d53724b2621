#include "apps/load/pattern.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "transport/base/byte_order.h"

namespace oxmem::apps {
namespace {

uint64_t FirstState(const BlockPattern& pattern) {
  const uint64_t of_block = Random::Mix(pattern.seed + Random::kStep * (pattern.block + 1));
  return Random::Mix(of_block ^ pattern.generation);
}

}  // namespace

void FillPattern(const BlockPattern& pattern, std::span<std::byte> bytes) {
  Random words(FirstState(pattern));
  while (bytes.size() >= sizeof(uint64_t)) {
    StoreLittleEndian(bytes.data(), words.Next());
    bytes = bytes.subspan(sizeof(uint64_t));
  }
  if (bytes.empty()) return;
  std::array<std::byte, sizeof(uint64_t)> last;
  StoreLittleEndian(last.data(), words.Next());
  std::memcpy(bytes.data(), last.data(), bytes.size());
}

std::optional<std::size_t> FindMismatch(const BlockPattern& pattern,
                                        std::span<const std::byte> bytes) {
  Random words(FirstState(pattern));
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(uint64_t)) {
    std::array<std::byte, sizeof(uint64_t)> expected;
    StoreLittleEndian(expected.data(), words.Next());
    const std::size_t count = std::min(bytes.size() - at, expected.size());
    if (std::memcmp(bytes.data() + at, expected.data(), count) == 0) continue;
    for (std::size_t i = 0; i < count; ++i) {
      if (bytes[at + i] != expected[i]) return at + i;
    }
  }
  return std::nullopt;
}

}  // namespace oxmem::apps
