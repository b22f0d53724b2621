#ifndef OXMEM_NODE_REGION_MAP_H_
#define OXMEM_NODE_REGION_MAP_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "transport/base/memory_guard.h"

namespace oxmem::node {

// A range of TileLink addresses and the memory behind it. The memory belongs to the caller and
// outlives the map.
struct Region {
  std::string name;
  uint64_t base = 0;
  std::span<std::byte> memory;
  bool read_only = false;
  bool prefetchable = false;     // backed by storage, so that a hint can start reading ahead
  MemoryGuard* guard = nullptr;  // of memory that can go away; outlives the map too

  uint64_t size() const { return memory.size(); }
};

// The node's address space. Looking an address up costs the logarithm of the number of regions, and
// nothing when the region is the one found before.
class RegionMap {
 public:
  // Bases are multiples of this: messages and atomic words stay naturally aligned in memory.
  static constexpr uint64_t kBaseAlignment = 4096;

  // Refuses an empty region, a misaligned base, a name or range already taken, and a range past
  // 2^64.
  absl::Status Add(Region region);

  // The region that holds all of [address, address + length), or null: messages never span two.
  const Region* Find(uint64_t address, uint64_t length);

  // The lowest base for a further region of this size: after the last one, aligned to `alignment`.
  uint64_t NextBase(uint64_t alignment) const;

  const std::vector<Region>& regions() const { return regions_; }

 private:
  std::vector<Region> regions_;  // by base
  std::size_t last_ = 0;
};

}  // namespace oxmem::node

#endif  // OXMEM_NODE_REGION_MAP_H_
