#include "fs/fuse/write_order.h"

#include <cstring>

#include "fs/fuse/kernel_abi.h"

namespace oxmem::fs {
namespace {

constexpr uint64_t kResent = uint64_t{1} << 63;

bool Overlap(const RequestSlot& a, const RequestSlot& b) {
  return a.range.inode == b.range.inode && a.range.first < b.range.end &&
         b.range.first < a.range.end;
}

}  // namespace

// Only what goes past the cache has an owner of locks.
void WriteOrder::Note(RequestSlot& slot, std::span<const std::byte> request) {
  fuse_in_header header;
  fuse_read_in read;
  fuse_write_in write;
  static_assert(sizeof read == sizeof write);
  slot.fills_cache = slot.is_ordered_write = false;
  slot.owner = nullptr;
  if (request.size() < sizeof header + sizeof write) return;
  std::memcpy(&header, request.data(), sizeof header);
  slot.order = header.unique & ~kResent;
  if (header.opcode == FUSE_READ) {
    std::memcpy(&read, request.data() + sizeof header, sizeof read);
    if ((read.read_flags & FUSE_READ_LOCKOWNER) != 0) return;
    slot.fills_cache = true;
    slot.range = {header.nodeid, read.offset, read.offset + read.size};
  } else if (header.opcode == FUSE_WRITE) {
    std::memcpy(&write, request.data() + sizeof header, sizeof write);
    if ((write.write_flags & FUSE_WRITE_LOCKOWNER) == 0) return;
    slot.is_ordered_write = true;
    slot.range = {header.nodeid, write.offset, write.offset + write.size};
    const MutexLock lock(&mutex_);
    writes_.PushBack(slot);
    under_way_.fetch_add(1);
  }
}

bool WriteOrder::Waits(const RequestSlot& read) const {
  for (const RequestSlot* write = writes_.front(); write != nullptr; write = List::Next(*write)) {
    if (write->order < read.order && Overlap(*write, read)) return true;
  }
  return false;
}

bool WriteOrder::MustWait(const RequestSlot& request) const {
  if (!request.fills_cache || under_way_.load() == 0) return false;
  const MutexLock lock(&mutex_);
  return Waits(request);
}

bool WriteOrder::Delay(RequestSlot& request) {
  if (!request.fills_cache || under_way_.load() == 0) return false;
  const MutexLock lock(&mutex_);
  if (!Waits(request)) return false;
  waiting_.PushBack(request);
  return true;
}

void WriteOrder::End(RequestSlot& request, std::vector<RequestSlot*>* ready) {
  if (!request.is_ordered_write) return;
  request.is_ordered_write = false;
  const MutexLock lock(&mutex_);
  writes_.Remove(request);
  under_way_.fetch_sub(1);
  for (RequestSlot* read = waiting_.front(); read != nullptr;) {
    RequestSlot* const next = List::Next(*read);
    if (!Waits(*read)) {
      waiting_.Remove(*read);
      ready->push_back(read);
    }
    read = next;
  }
}

void WriteOrder::Forget(RequestSlot& read) {
  const MutexLock lock(&mutex_);
  if (List::Linked(read)) waiting_.Remove(read);
}

}  // namespace oxmem::fs
