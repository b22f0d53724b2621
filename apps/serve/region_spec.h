#ifndef APPS_SERVE_REGION_SPEC_H_
#define APPS_SERVE_REGION_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "oxmem/node/backing.h"

namespace oxmem::apps {

// One --region of a node, as the user wrote it.
struct RegionSpec {
  std::string name;
  std::optional<uint64_t> base;  // not given: behind the regions before it
  bool read_only = false;
  node::BackingSpec backing;  // with the size
};

// NAME=SIZE[,base=ADDRESS][,backing=memfd|anonymous|huge|file:PATH][,ro]
//
// A name has letters, digits, '.', '_' and '-', 64 at most, and begins with a letter or digit: it
// stands in URIs and file names.
absl::StatusOr<RegionSpec> ParseRegionSpec(const std::string& text);

}  // namespace oxmem::apps

#endif  // APPS_SERVE_REGION_SPEC_H_
