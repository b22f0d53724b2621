#include "apps/serve/region_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

// Of bases nobody chose: huge pages on both sides line up.
constexpr uint64_t kDefaultAlignment = uint64_t{2} << 20;

}  // namespace

absl::StatusOr<RegionStore> RegionStore::Create(const std::vector<RegionSpec>& specs) {
  RegionStore store;
  // The map wants memory, and knows all rules: it is tried with ranges that nobody touches first.
  node::RegionMap plan;
  std::vector<uint64_t> bases;
  for (const RegionSpec& spec : specs) {
    const uint64_t base = spec.base.value_or(plan.NextBase(kDefaultAlignment));
    OXMEM_RETURN_IF_ERROR(
        plan.Add({spec.name, base, {static_cast<std::byte*>(nullptr), spec.backing.size_bytes}}));
    bases.push_back(base);
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    absl::StatusOr<node::Backing> backing = node::Backing::Create(specs[i].backing);
    if (!backing.ok()) {
      return Annotate(backing.status(), absl::StrCat("region \"", specs[i].name, "\""));
    }
    OXMEM_RETURN_IF_ERROR(
        store.map_.Add({specs[i].name, bases[i], backing->memory(), specs[i].read_only,
                        backing->persistent(), backing->guard()}));
    store.regions_.push_back({specs[i], bases[i], *std::move(backing)});
  }
  return store;
}

std::string RegionStore::Describe() const {
  std::string text = regions_.size() == 1 ? "region" : "regions";
  const char* separator = " ";
  for (const Region& region : regions_) {
    absl::StrAppendFormat(&text, "%s%s %s at 0x%x%s", separator, region.spec.name,
                          FormatSize(region.spec.backing.size_bytes), region.base,
                          region.spec.read_only ? " read-only" : "");
    separator = ", ";
  }
  return text;
}

std::vector<Part> RegionStore::Parts() const {
  std::vector<Part> parts;
  for (const Region& region : regions_) {
    Part part;
    part.kind = "region";
    part.name = region.spec.name;
    part.facts = {{"base", absl::StrFormat("0x%x", region.base)},
                  {"backing", node::FormatBacking(region.spec.backing)},
                  {"access", region.spec.read_only ? "read-only" : "read-write"}};
    part.figures = {{"size_bytes", true, "size of the region", region.spec.backing.size_bytes}};
    parts.push_back(std::move(part));
  }
  return parts;
}

}  // namespace oxmem::apps
