#include "oxmem/node/region_map.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/base/size.h"

namespace oxmem::node {
namespace {

bool Holds(const Region& region, uint64_t address, uint64_t length) {
  return address >= region.base && RangeFits(address - region.base, length, region.size());
}

std::string Describe(const Region& region) {
  return absl::StrFormat("region \"%s\" (0x%x to 0x%x)", region.name, region.base,
                         region.base + (region.size() - 1));
}

}  // namespace

absl::Status RegionMap::Add(Region region) {
  if (region.size() == 0) {
    return absl::InvalidArgumentError(absl::StrCat("region \"", region.name, "\" has 0 bytes"));
  }
  if (region.base % kBaseAlignment != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("region \"%s\": base 0x%x is not a multiple of 0x%x", region.name,
                        region.base, kBaseAlignment));
  }
  if (!CheckedAdd(region.base, region.size() - 1)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("region \"%s\": base 0x%x and size %s reach past 2^64", region.name,
                        region.base, FormatSize(region.size())));
  }
  for (const Region& other : regions_) {
    if (other.name == region.name) {
      return absl::AlreadyExistsError(
          absl::StrCat("region \"", region.name, "\" is given twice: names must differ"));
    }
    const uint64_t last = region.base + (region.size() - 1);
    const uint64_t other_last = other.base + (other.size() - 1);
    if (region.base <= other_last && other.base <= last) {
      return absl::AlreadyExistsError(
          absl::StrCat(Describe(region), " overlaps ", Describe(other)));
    }
  }
  const auto after = std::find_if(regions_.begin(), regions_.end(),
                                  [&](const Region& r) { return r.base > region.base; });
  regions_.insert(after, std::move(region));
  last_ = 0;
  return absl::OkStatus();
}

const Region* RegionMap::Find(uint64_t address, uint64_t length) {
  if (regions_.empty()) return nullptr;
  if (Holds(regions_[last_], address, length)) return &regions_[last_];
  const auto after =
      std::upper_bound(regions_.begin(), regions_.end(), address,
                       [](uint64_t value, const Region& region) { return value < region.base; });
  if (after == regions_.begin()) return nullptr;
  const auto found = std::prev(after);
  if (!Holds(*found, address, length)) return nullptr;
  last_ = static_cast<std::size_t>(found - regions_.begin());
  return &*found;
}

uint64_t RegionMap::NextBase(uint64_t alignment) const {
  if (regions_.empty()) return 0;
  const uint64_t end = regions_.back().base + regions_.back().size();
  return (end + alignment - 1) / alignment * alignment;
}

}  // namespace oxmem::node
