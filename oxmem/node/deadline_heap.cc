#include "oxmem/node/deadline_heap.h"

namespace oxmem::node {

void DeadlineHeap::Set(uint32_t id, Instant deadline) {
  if (id >= position_of_.size()) {
    if (deadline.is_never()) return;
    position_of_.resize(id + 1, kAbsent);
  }
  std::size_t position = position_of_[id];
  if (deadline.is_never()) {
    if (position == kAbsent) return;
    position_of_[id] = kAbsent;
    const Entry last = heap_.back();
    heap_.pop_back();
    if (last.id == id) return;
    Place(position, last);
    SiftUp(position);
    SiftDown(position_of_[last.id]);
    return;
  }
  if (position == kAbsent) {
    position = heap_.size();
    heap_.push_back({deadline, id});
    position_of_[id] = position;
    SiftUp(position);
    return;
  }
  if (heap_[position].deadline == deadline) return;
  heap_[position].deadline = deadline;
  SiftUp(position);
  SiftDown(position_of_[id]);
}

void DeadlineHeap::Place(std::size_t position, Entry entry) {
  heap_[position] = entry;
  position_of_[entry.id] = position;
}

void DeadlineHeap::SiftUp(std::size_t position) {
  const Entry entry = heap_[position];
  while (position > 0) {
    const std::size_t parent = (position - 1) / 2;
    if (heap_[parent].deadline <= entry.deadline) break;
    Place(position, heap_[parent]);
    position = parent;
  }
  Place(position, entry);
}

void DeadlineHeap::SiftDown(std::size_t position) {
  const Entry entry = heap_[position];
  for (;;) {
    std::size_t child = 2 * position + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1].deadline < heap_[child].deadline) ++child;
    if (entry.deadline <= heap_[child].deadline) break;
    Place(position, heap_[child]);
    position = child;
  }
  Place(position, entry);
}

}  // namespace oxmem::node
