#ifndef RDMA_NEX_REGION_TABLE_H_
#define RDMA_NEX_REGION_TABLE_H_

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>

namespace oxmem::nex {

// One registered region or bound memory window. While `key` is not 0 the other fields do not
// change; whoever has pinned the region and then seen the expected key may use its memory.
struct Region {
  std::atomic<std::uint32_t> key{0};
  std::atomic<std::uint32_t> pins{0};
  std::atomic<std::uint32_t> windows{0};  // windows bound to this region
  std::uint32_t domain = 0;               // protection domain
  std::uint32_t access = 0;               // IBV_ACCESS_*
  std::uint32_t window_qpn = 0;           // a type 2 window serves only this queue pair
  Region* parent = nullptr;               // of a window; the next one, while it is in no use
  bool is_window = false;
  std::uint32_t tag = 0;        // its key without the low byte, of a window also while unbound
  std::byte* memory = nullptr;  // of the first byte
  std::uint64_t first = 0;      // the address peers use for the first byte
  std::uint64_t length = 0;
};

enum class RegionUse : std::uint8_t { kLocal, kRemote };

struct RegionQuery {
  RegionUse use = RegionUse::kLocal;
  std::uint32_t key = 0;
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  std::uint32_t access = 0;  // every one of these flags is needed
  std::uint32_t domain = 0;
  std::uint32_t qpn = 0;
};

// Where a table keeps its regions. Another process that maps the same memory can look regions up
// in it; it learns from its doors (direct/segment.h) what RegionTable learns from pins.
struct RegionStorage {
  Region* regions = nullptr;
  std::atomic<std::uint32_t>* index = nullptr;  // twice `capacity`; slot + 1, 0 empty
  std::size_t capacity = 0;                     // a power of two
};

// The region with this key, or nullptr. Takes no lock, and ends whatever the storage holds. While
// regions are removed it may miss one that is there: another process then asks the owner.
Region* FindRegion(const RegionStorage& storage, std::uint32_t key);
// Every check but that of the key itself, for a region that is pinned or visited.
bool RegionAllows(const Region& region, const RegionQuery& query);

// The memory of a process that queue pairs may touch: a table from random keys to regions.
// Lookups take no lock (a seqlock tells those that miss whether to look again). A successful Pin
// keeps the memory registered until Unpin; Remove waits for pins, so memory is never touched after
// its deregistration returned. Pins are held only around one system call or copy, never while
// waiting for a peer.
class RegionTable {
 public:
  // `random` gives 32 random bits a call; the capacity is rounded up to a power of two.
  RegionTable(std::size_t capacity, std::function<std::uint32_t()> random);
  // With storage of the caller's, all zero, that outlives the table. `visitors` returns when
  // nobody outside uses a region (its number in the storage) whose key was taken away.
  RegionTable(const RegionStorage& storage, std::function<std::uint32_t()> random,
              std::function<void(std::uint32_t)> visitors);

  struct Pinned {
    Region* region = nullptr;  // nullptr: refused
    std::byte* memory = nullptr;
  };
  // Checks everything: key, domain, access, bounds that cannot wrap, the window's queue pair.
  Pinned Pin(const RegionQuery& query);
  static void Unpin(Region* region);

  // A new region with a fresh random key, or nullptr when the table is full.
  Region* Add(std::uint32_t domain, std::byte* memory, std::uint64_t first, std::uint64_t length,
              std::uint32_t access);
  // False, and nothing is done, while windows are bound to it.
  bool Remove(Region* region);
  // Changes a region that nobody uses meanwhile; its key stays.
  bool Change(Region* region, std::uint32_t domain, std::byte* memory, std::uint64_t first,
              std::uint64_t length, std::uint32_t access);

  // Windows own their slot and their place in the index for life and have a key only while bound.
  Region* AddWindow(std::uint32_t domain, std::uint32_t* key);
  void RemoveWindow(Region* window);
  struct WindowBinding {
    Region* parent = nullptr;
    std::uint32_t parent_key = 0;  // what was this region when the request was posted
    std::uint64_t address = 0;  // within the parent, as peers of the parent address it
    std::uint64_t length = 0;
    std::uint32_t access = 0;
    bool zero_based = false;
    std::uint32_t qpn = 0;  // 0: any
  };
  // Unbinds first, but a window for one queue pair must be unbound. A length of 0 leaves it so.
  // `key` is the window's own, but for the low byte. Both may have been removed meanwhile, which
  // is refused.
  bool BindWindow(Region* window, const WindowBinding& binding, std::uint32_t key);
  // Invalidates a window by key, as SEND_WITH_INV and LOCAL_INV do. False for anything else.
  bool Invalidate(std::uint32_t key, std::uint32_t domain, std::uint32_t qpn);

 private:
  Region* Find(std::uint32_t key) const;
  std::uint32_t FreshKeyLocked();  // 0: none was found
  void InsertLocked(std::uint32_t tag, Region* region);
  void EraseLocked(const Region* region);
  Region* TakeSlotLocked();
  void GiveSlotLocked(Region* region);
  // The table's lock, once nobody else is changing the region.
  std::unique_lock<std::mutex> LockFor(const Region* region);
  // Returns when nobody uses the region, whose key was taken away, any more. The table is not
  // locked meanwhile, and the region waits for LockFor.
  void Drain(Region* region, std::unique_lock<std::mutex>* lock);
  void Unbind(Region* window, std::unique_lock<std::mutex>* lock);

  std::function<std::uint32_t()> random_;
  std::function<void(std::uint32_t)> visitors_;
  std::mutex mutex_;  // guards changes; lookups do without
  std::condition_variable changed_;
  std::vector<const Region*> changing_;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  // Large and mostly unused: zeroed pages of the system that only become real when touched.
  const std::unique_ptr<Region[], Free> own_regions_;
  const std::unique_ptr<std::atomic<std::uint32_t>[], Free> own_index_;
  const RegionStorage storage_;
  const std::size_t mask_;
  std::atomic<std::uint32_t> moves_{0};  // of entries in the index; odd while they move
  std::size_t used_ = 0;
  Region* free_ = nullptr;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_REGION_TABLE_H_
