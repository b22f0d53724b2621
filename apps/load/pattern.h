#ifndef APPS_LOAD_PATTERN_H_
#define APPS_LOAD_PATTERN_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace oxmem::apps {

// A stream of numbers that a seed determines: splitmix64.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() { return Mix(state_ += kStep); }
  // Below `limit`, which is not zero.
  uint64_t Below(uint64_t limit) {
    return static_cast<uint64_t>((static_cast<unsigned __int128>(Next()) * limit) >> 64);
  }

  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15;
  static constexpr uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }

 private:
  uint64_t state_;
};

// What a block holds after it was written for the `generation`th time, of any length. Two blocks,
// generations or seeds share no word but by chance.
struct BlockPattern {
  uint64_t seed = 0;
  uint64_t block = 0;
  uint32_t generation = 0;
};

void FillPattern(const BlockPattern& pattern, std::span<std::byte> bytes);

// Where the bytes differ from the pattern for the first time; nothing if they do not.
std::optional<std::size_t> FindMismatch(const BlockPattern& pattern,
                                        std::span<const std::byte> bytes);

}  // namespace oxmem::apps

#endif  // APPS_LOAD_PATTERN_H_
