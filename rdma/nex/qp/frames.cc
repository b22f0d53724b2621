#include "rdma/nex/qp/frames.h"

#include <algorithm>

namespace oxmem::nex {

void OutQueue::DropUnsentRequests() {
  std::uint32_t kept = head_ + (offset_ > 0 ? 1 : 0);
  for (std::uint32_t i = kept; i != tail_; ++i) {
    OutFrame& frame = frames_[i % kFrames];
    if (frame.request) continue;
    OutFrame& to = frames_[kept++ % kFrames];
    if (&to == &frame) continue;
    to = frame;
    if (frame.payload.sges == &frame.own) to.payload.sges = &to.own;
  }
  tail_ = kept;
}

MapResult OutQueue::Fill(RegionTable& regions, IoBatch* batch) {
  std::uint64_t offset = offset_;
  for (std::uint32_t i = head_; i != tail_ && !batch->full(); ++i) {
    const OutFrame& frame = frames_[i % kFrames];
    std::uint64_t body = 0;
    if (offset < kHeaderBytes) {
      batch->Add(frame.header.data() + offset, kHeaderBytes - offset);
    } else {
      body = offset - kHeaderBytes;
    }
    offset = 0;
    if (frame.length == body) continue;
    const std::size_t before = batch->bytes;
    const std::uint64_t wanted = frame.length - body;
    if (MapPayload(regions, frame.payload, body, wanted, batch) != MapResult::kOk) {
      return MapResult::kRefused;
    }
    if (batch->bytes - before < wanted) return MapResult::kOk;  // the rest comes next time
  }
  return MapResult::kOk;
}

}  // namespace oxmem::nex
