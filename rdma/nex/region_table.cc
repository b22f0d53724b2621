#include "rdma/nex/region_table.h"

#include <infiniband/verbs.h>
#include <sched.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "transport/base/check.h"

namespace oxmem::nex {
namespace {
// The low byte of a key belongs to the consumer (memory windows of type 2), so it takes no part
// in finding the slot.
std::uint32_t Tag(std::uint32_t key) { return key >> 8; }
// More than ever needed: one of 16 keys is taken at most.
constexpr int kTries = 1000;
}  // namespace

Region* FindRegion(const RegionStorage& storage, std::uint32_t key) {
  const std::size_t mask = 2 * storage.capacity - 1;
  std::size_t i = Tag(key) & mask;
  for (std::size_t looked = 0; looked <= mask; ++looked, i = (i + 1) & mask) {
    const std::uint32_t entry = storage.index[i].load(std::memory_order_acquire);
    if (entry == 0) return nullptr;
    if (entry > storage.capacity) continue;
    auto* region = &storage.regions[entry - 1];
    if (region->key.load(std::memory_order_acquire) == key) return region;
  }
  return nullptr;
}

bool RegionAllows(const Region& region, const RegionQuery& query) {
  bool good = region.domain == query.domain;
  good = good && (region.access & query.access) == query.access;
  good = good && query.address >= region.first && query.length <= region.length &&
         query.address - region.first <= region.length - query.length;
  return good &&
         (!region.is_window || (query.use == RegionUse::kRemote &&
                                (region.window_qpn == 0 || region.window_qpn == query.qpn)));
}

RegionTable::RegionTable(std::size_t capacity, std::function<std::uint32_t()> random)
    : random_(std::move(random)),
      own_regions_(static_cast<Region*>(std::calloc(std::bit_ceil(capacity), sizeof(Region)))),
      own_index_(static_cast<std::atomic<std::uint32_t>*>(
          std::calloc(2 * std::bit_ceil(capacity), sizeof(std::atomic<std::uint32_t>)))),
      storage_{own_regions_.get(), own_index_.get(), std::bit_ceil(capacity)},
      mask_(2 * storage_.capacity - 1) {
  OXMEM_CHECK(own_regions_ != nullptr && own_index_ != nullptr);
}

RegionTable::RegionTable(const RegionStorage& storage, std::function<std::uint32_t()> random,
                         std::function<void(std::uint32_t)> visitors)
    : random_(std::move(random)),
      visitors_(std::move(visitors)),
      storage_(storage),
      mask_(2 * storage.capacity - 1) {
  OXMEM_CHECK(std::has_single_bit(storage.capacity));
}

// An entry that moves is missed by whoever has passed its new place already and comes late to its
// old one. So a miss counts only when nothing moved meanwhile.
Region* RegionTable::Find(std::uint32_t key) const {
  for (;;) {
    const std::uint32_t moves = moves_.load(std::memory_order_acquire);
    Region* region = FindRegion(storage_, key);
    if (region != nullptr) return region;
    if (moves % 2 == 0 && moves_.load(std::memory_order_acquire) == moves) return nullptr;
  }
}

RegionTable::Pinned RegionTable::Pin(const RegionQuery& query) {
  if (query.key == 0) return {};
  Region* region = Find(query.key);
  if (region == nullptr) return {};
  // The order of this pair and of the pair in Remove decides the race between them.
  region->pins.fetch_add(1, std::memory_order_seq_cst);
  const bool good =
      region->key.load(std::memory_order_seq_cst) == query.key && RegionAllows(*region, query);
  if (!good) {
    Unpin(region);
    return {};
  }
  return {region, region->memory + (query.address - region->first)};
}

void RegionTable::Unpin(Region* region) { region->pins.fetch_sub(1, std::memory_order_release); }

std::unique_lock<std::mutex> RegionTable::LockFor(const Region* region) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return std::find(changing_.begin(), changing_.end(), region) == changing_.end();
  });
  return lock;
}

void RegionTable::Drain(Region* region, std::unique_lock<std::mutex>* lock) {
  changing_.push_back(region);
  lock->unlock();
  // A pin lasts for one copy or system call that does not block.
  while (region->pins.load(std::memory_order_seq_cst) != 0) sched_yield();
  // Who visits is another process, which may be slow.
  if (visitors_) visitors_(static_cast<std::uint32_t>(region - storage_.regions));
  lock->lock();
  std::erase(changing_, region);
  changed_.notify_all();
}

std::uint32_t RegionTable::FreshKeyLocked() {
  for (int tried = 0; tried < kTries; ++tried) {
    const std::uint32_t key = random_();
    if (Tag(key) == 0 || Tag(key) == 0xffffff) continue;
    bool taken = false;
    std::size_t i = Tag(key) & mask_;
    for (; storage_.index[i].load() != 0 && !taken; i = (i + 1) & mask_) {
      taken = storage_.regions[storage_.index[i].load() - 1].tag == Tag(key);
    }
    if (!taken) return key;
  }
  return 0;
}

void RegionTable::InsertLocked(std::uint32_t tag, Region* region) {
  region->tag = tag;
  std::size_t i = tag & mask_;
  while (storage_.index[i].load() != 0) i = (i + 1) & mask_;
  const auto slot = static_cast<std::uint32_t>(region - storage_.regions) + 1;
  storage_.index[i].store(slot, std::memory_order_release);
}

// What stands behind it moves up, so chains have no gaps and no more entries than there are
// regions.
void RegionTable::EraseLocked(const Region* region) {
  const auto slot = static_cast<std::uint32_t>(region - storage_.regions) + 1;
  std::size_t gap = region->tag & mask_;
  while (storage_.index[gap].load() != slot) gap = (gap + 1) & mask_;
  moves_.fetch_add(1);
  for (std::size_t i = (gap + 1) & mask_; storage_.index[i].load() != 0; i = (i + 1) & mask_) {
    const std::uint32_t entry = storage_.index[i].load();
    const std::size_t home = storage_.regions[entry - 1].tag & mask_;
    if (((i - home) & mask_) < ((i - gap) & mask_)) continue;  // no further than to its home
    storage_.index[gap].store(entry, std::memory_order_release);
    gap = i;
  }
  storage_.index[gap].store(0, std::memory_order_release);
  moves_.fetch_add(1);
}

Region* RegionTable::TakeSlotLocked() {
  if (free_ != nullptr) return std::exchange(free_, free_->parent);
  return used_ < storage_.capacity ? &storage_.regions[used_++] : nullptr;
}

void RegionTable::GiveSlotLocked(Region* region) {
  region->tag = 0;  // nobody's
  region->parent = std::exchange(free_, region);
}

Region* RegionTable::Add(std::uint32_t domain, std::byte* memory, std::uint64_t first,
                         std::uint64_t length, std::uint32_t access) {
  const std::lock_guard lock(mutex_);
  const std::uint32_t key = FreshKeyLocked();
  Region* region = key == 0 ? nullptr : TakeSlotLocked();
  if (region == nullptr) return nullptr;
  region->domain = domain;
  region->access = access;
  region->window_qpn = 0;
  region->parent = nullptr;
  region->is_window = false;
  region->memory = memory;
  region->first = first;
  region->length = length;
  region->key.store(key, std::memory_order_seq_cst);
  InsertLocked(Tag(key), region);
  return region;
}

bool RegionTable::Remove(Region* region) {
  std::unique_lock lock = LockFor(region);
  if (region->windows.load() != 0) return false;
  EraseLocked(region);
  region->key.store(0, std::memory_order_seq_cst);
  Drain(region, &lock);
  GiveSlotLocked(region);
  return true;
}

bool RegionTable::Change(Region* region, std::uint32_t domain, std::byte* memory,
                         std::uint64_t first, std::uint64_t length, std::uint32_t access) {
  std::unique_lock lock = LockFor(region);
  if (region->windows.load() != 0) return false;
  const std::uint32_t key = region->key.load();
  region->key.store(0, std::memory_order_seq_cst);
  Drain(region, &lock);
  region->domain = domain;
  region->memory = memory;
  region->first = first;
  region->length = length;
  region->access = access;
  region->key.store(key, std::memory_order_seq_cst);
  return true;
}

Region* RegionTable::AddWindow(std::uint32_t domain, std::uint32_t* key) {
  const std::lock_guard lock(mutex_);
  *key = FreshKeyLocked();
  Region* window = *key == 0 ? nullptr : TakeSlotLocked();
  if (window == nullptr) return nullptr;
  window->domain = domain;
  window->is_window = true;
  window->parent = nullptr;
  InsertLocked(Tag(*key), window);
  return window;
}

void RegionTable::Unbind(Region* window, std::unique_lock<std::mutex>* lock) {
  if (window->key.load() == 0) return;
  window->key.store(0, std::memory_order_seq_cst);
  Drain(window, lock);
  window->parent->windows.fetch_sub(1);
  window->parent = nullptr;
}

void RegionTable::RemoveWindow(Region* window) {
  std::unique_lock lock = LockFor(window);
  Unbind(window, &lock);
  EraseLocked(window);
  GiveSlotLocked(window);
}

bool RegionTable::BindWindow(Region* window, const WindowBinding& binding, std::uint32_t key) {
  std::unique_lock lock = LockFor(window);
  if (!window->is_window || window->tag != Tag(key)) return false;
  // A window of type 2 has to be free, and is made so by invalidating it (o10-37.2.30).
  if (binding.qpn != 0 && (window->key.load() != 0 || binding.length == 0)) return false;
  if (binding.length != 0) {
    const Region* parent = binding.parent;
    if (parent == nullptr || parent->is_window || parent->key.load() == 0 ||
        parent->key.load() != binding.parent_key || parent->domain != window->domain ||
        (parent->access & IBV_ACCESS_MW_BIND) == 0) {
      return false;
    }
    const std::uint32_t writes = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;
    if ((binding.access & writes) != 0 && (parent->access & IBV_ACCESS_LOCAL_WRITE) == 0) {
      return false;
    }
    if (binding.address < parent->first || binding.length > parent->length ||
        binding.address - parent->first > parent->length - binding.length) {
      return false;
    }
  }
  // A region with windows stays; this one is promised to it while the old binding ends.
  if (binding.length != 0) binding.parent->windows.fetch_add(1);
  Unbind(window, &lock);
  if (binding.length == 0) return true;
  window->parent = binding.parent;
  window->access = binding.access;
  window->window_qpn = binding.qpn;
  window->memory = binding.parent->memory + (binding.address - binding.parent->first);
  window->first = binding.zero_based ? 0 : binding.address;
  window->length = binding.length;
  window->key.store(key, std::memory_order_seq_cst);
  return true;
}

bool RegionTable::Invalidate(std::uint32_t key, std::uint32_t domain, std::uint32_t qpn) {
  std::unique_lock lock(mutex_);
  Region* window = key == 0 ? nullptr : Find(key);
  if (window == nullptr || !window->is_window || window->domain != domain) return false;
  if (window->window_qpn != qpn) return false;  // type 1 windows cannot be invalidated
  Unbind(window, &lock);
  return true;
}

}  // namespace oxmem::nex
