#ifndef APPS_LOAD_BLOCK_LEDGER_H_
#define APPS_LOAD_BLOCK_LEDGER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace oxmem::apps {

// What a verifying load knows of each of its blocks: how often it was written, whether a request on
// it is under way, and whether its contents are known at all. One thread uses it.
class BlockLedger {
 public:
  BlockLedger() = default;
  explicit BlockLedger(std::size_t blocks) : entries_(blocks, kUnknown) {}

  bool busy(std::size_t block) const { return (entries_[block] & kBusy) != 0; }
  bool known(std::size_t block) const { return (entries_[block] & kUnknown) == 0; }
  uint32_t generation(std::size_t block) const { return entries_[block] & kGeneration; }
  // That a write starting now will make; also of an unknown block never one used before.
  uint32_t next_generation(std::size_t block) const {
    return (generation(block) + 1) & kGeneration;
  }

  void Start(std::size_t block) { entries_[block] |= kBusy; }
  void EndRead(std::size_t block) { entries_[block] &= ~kBusy; }
  // A failed write leaves the old contents, the new ones, or a mixture.
  void EndWrite(std::size_t block, bool succeeded) {
    entries_[block] = next_generation(block) | (succeeded ? 0 : kUnknown);
  }

 private:
  static constexpr uint32_t kBusy = 1u << 31;
  static constexpr uint32_t kUnknown = 1u << 30;
  static constexpr uint32_t kGeneration = kUnknown - 1;

  std::vector<uint32_t> entries_;
};

}  // namespace oxmem::apps

#endif  // APPS_LOAD_BLOCK_LEDGER_H_
