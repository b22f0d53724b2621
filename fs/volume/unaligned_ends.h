#ifndef FS_VOLUME_UNALIGNED_ENDS_H_
#define FS_VOLUME_UNALIGNED_ENDS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fs/volume/io_op.h"

namespace oxmem::fs {

// The blocks at the two ends of an operation that does not start or end on a block boundary: where
// they are, what part of them the operation means, and memory for the whole block.
class UnalignedEnds {
 public:
  static constexpr int kSlots = 32;

  enum class Step : uint8_t { kNone, kRead, kReading, kWrite, kWriting, kDone };
  struct End {
    Step step = Step::kNone;    // what is to be done next, or under way
    uint64_t block_offset = 0;  // in the region
    uint64_t from = 0;          // the operation's bytes within the block: [from, to)
    uint64_t to = 0;
    uint64_t op_offset = 0;  // where these lie in the operation's buffer
    std::byte* block = nullptr;
  };

  // Blocks of `block_bytes`; takes no memory when that is 1.
  explicit UnalignedEnds(uint64_t block_bytes);

  std::span<std::byte> memory() { return memory_; }
  bool available() const { return !free_.empty(); }

  // Takes a slot for the operation, sets its ends and its middle.
  void Open(IoOp& op);
  void Close(IoOp& op);

  // The ends of an operation that has a slot.
  std::array<End, 2>& Of(const IoOp& op) {
    return slots_[static_cast<std::size_t>(op.transfer.edges)];
  }
  const std::array<End, 2>& Of(const IoOp& op) const {
    return slots_[static_cast<std::size_t>(op.transfer.edges)];
  }

  // The block was read: hands its bytes to a read, or changes them for a write, which must then be
  // written back.
  static void AfterRead(const IoOp& op, End& end);

 private:
  void SetEnd(const IoOp& op, End& end, uint64_t block_offset) const;

  uint64_t block_bytes_;
  std::vector<std::byte> memory_;
  std::vector<std::array<End, 2>> slots_;
  std::vector<int32_t> free_;
};

}  // namespace oxmem::fs

#endif  // FS_VOLUME_UNALIGNED_ENDS_H_
