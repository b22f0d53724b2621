#ifndef APPS_SERVE_REGION_STORE_H_
#define APPS_SERVE_REGION_STORE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/common/figures.h"
#include "apps/serve/region_spec.h"
#include "oxmem/node/backing.h"
#include "oxmem/node/region_map.h"

namespace oxmem::apps {

// The memory of a node: its regions and where they lie in its address space. Immutable once made;
// it outlives every endpoint that serves it.
class RegionStore {
 public:
  struct Region {
    RegionSpec spec;
    uint64_t base = 0;
    node::Backing backing;
  };

  // Checks all the regions together before it takes memory for the first.
  static absl::StatusOr<RegionStore> Create(const std::vector<RegionSpec>& specs);

  const std::vector<Region>& regions() const { return regions_; }
  // Each endpoint looks addresses up in one of its own.
  const node::RegionMap& map() const { return map_; }

  // "region data 1G at 0x0", "regions data 1G at 0x0, code 64M at 0x40000000 read-only".
  std::string Describe() const;
  // A part for each region.
  std::vector<Part> Parts() const;

 private:
  RegionStore() = default;

  std::vector<Region> regions_;
  node::RegionMap map_;
};

}  // namespace oxmem::apps

#endif  // APPS_SERVE_REGION_STORE_H_
