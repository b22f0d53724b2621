#include "fs/volume/unaligned_ends.h"

#include <algorithm>
#include <cstring>

#include "transport/base/check.h"

namespace oxmem::fs {

UnalignedEnds::UnalignedEnds(uint64_t block_bytes) : block_bytes_(block_bytes) {
  if (block_bytes <= 1) return;
  memory_.resize(block_bytes * 2 * kSlots);
  slots_.resize(kSlots);
  for (std::size_t slot = 0; slot < kSlots; ++slot) {
    for (std::size_t end = 0; end < 2; ++end) {
      slots_[slot][end].block = memory_.data() + (2 * slot + end) * block_bytes;
    }
    free_.push_back(static_cast<int32_t>(slot));
  }
}

void UnalignedEnds::SetEnd(const IoOp& op, End& end, uint64_t block_offset) const {
  const uint64_t first = std::max(op.offset, block_offset);
  const uint64_t last = std::min(op.offset + op.length, block_offset + block_bytes_);
  end.step = Step::kRead;
  end.block_offset = block_offset;
  end.from = first - block_offset;
  end.to = last - block_offset;
  end.op_offset = first - op.offset;
}

void UnalignedEnds::Open(IoOp& op) {
  OXMEM_CHECK(!free_.empty());
  op.transfer.edges = free_.back();
  free_.pop_back();
  auto& [head, tail] = Of(op);
  head.step = tail.step = Step::kNone;
  const uint64_t end_offset = op.offset + op.length;
  const uint64_t head_block = op.offset - op.offset % block_bytes_;
  const uint64_t tail_block = end_offset - end_offset % block_bytes_;
  uint64_t middle = op.offset;
  uint64_t middle_end = end_offset;
  if (head_block != op.offset) {
    SetEnd(op, head, head_block);
    middle = head_block + block_bytes_;
  }
  // A range within one block has one end only.
  if (tail_block != end_offset && (head.step == Step::kNone || tail_block != head_block)) {
    SetEnd(op, tail, tail_block);
    middle_end = tail_block;
  }
  op.transfer.middle_offset = middle;
  op.transfer.middle_length = middle_end > middle ? middle_end - middle : 0;
}

void UnalignedEnds::Close(IoOp& op) {
  free_.push_back(op.transfer.edges);
  op.transfer.edges = -1;
}

void UnalignedEnds::AfterRead(const IoOp& op, End& end) {
  const std::size_t bytes = end.to - end.from;
  switch (op.kind) {
    case IoKind::kRead:
      std::memcpy(op.buffer + end.op_offset, end.block + end.from, bytes);
      end.step = Step::kDone;
      return;
    case IoKind::kWrite:
      std::memcpy(end.block + end.from, op.buffer + end.op_offset, bytes);
      end.step = Step::kWrite;
      return;
    case IoKind::kZero:
      std::memset(end.block + end.from, 0, bytes);
      end.step = Step::kWrite;
      return;
    case IoKind::kFlush:
      break;
  }
  OXMEM_CHECK(false);
}

}  // namespace oxmem::fs
