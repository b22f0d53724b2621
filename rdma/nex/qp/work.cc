#include "rdma/nex/qp/work.h"

#include <algorithm>

namespace oxmem::nex {
namespace {

RegionQuery QueryFor(const Payload& payload, const ibv_sge& sge) {
  return {.use = payload.use,
          .key = sge.lkey,
          .address = sge.addr,
          .length = sge.length,
          .access = payload.access,
          .domain = payload.domain,
          .qpn = payload.qpn};
}

}  // namespace

std::uint64_t PayloadLength(const Payload& payload) {
  std::uint64_t length = 0;
  for (int i = 0; i < payload.count; ++i) length += payload.sges[i].length;
  return length;
}

void IoBatch::Add(const void* memory, std::size_t length) {
  pieces[piece_count++] = {const_cast<void*>(memory), length};
  bytes += length;
}

void IoBatch::Release() {
  for (int i = 0; i < pinned_count; ++i) RegionTable::Unpin(pinned[i]);
  piece_count = pinned_count = 0;
  bytes = 0;
}

MapResult MapPayload(RegionTable& regions, const Payload& payload, std::uint64_t offset,
                     std::uint64_t limit, IoBatch* batch) {
  if (payload.copy != nullptr) {
    if (limit > 0 && !batch->full()) batch->Add(payload.copy + offset, limit);
    return MapResult::kOk;
  }
  for (int i = 0; i < payload.count && limit > 0 && !batch->full(); ++i) {
    const ibv_sge& sge = payload.sges[i];
    if (offset >= sge.length) {
      offset -= sge.length;
      continue;
    }
    const auto pinned = regions.Pin(QueryFor(payload, sge));
    if (pinned.region == nullptr) return MapResult::kRefused;
    batch->pinned[batch->pinned_count++] = pinned.region;
    const std::uint64_t piece = std::min<std::uint64_t>(sge.length - offset, limit);
    batch->Add(pinned.memory + offset, piece);
    limit -= piece;
    offset = 0;
  }
  return MapResult::kOk;
}

MapResult CheckPayload(RegionTable& regions, const Payload& payload, std::uint64_t length) {
  for (int i = 0; i < payload.count && length > 0; ++i) {
    if (payload.sges[i].length == 0) continue;
    const auto pinned = regions.Pin(QueryFor(payload, payload.sges[i]));
    if (pinned.region == nullptr) return MapResult::kRefused;
    RegionTable::Unpin(pinned.region);
    length -= std::min<std::uint64_t>(length, payload.sges[i].length);
  }
  return MapResult::kOk;
}

}  // namespace oxmem::nex
