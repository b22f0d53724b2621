#include "apps/serve/region_spec.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr std::size_t kMaxNameLength = 64;

bool IsName(const std::string& text) {
  return !text.empty() && text.size() <= kMaxNameLength && absl::ascii_isalnum(text.front()) &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
         });
}

absl::Status ParseKey(const std::string& word, RegionSpec* spec) {
  const std::pair<std::string, std::string> pair = absl::StrSplit(word, absl::MaxSplits('=', 1));
  if (word == "ro") {
    spec->read_only = true;
  } else if (pair.first == "base") {
    const absl::StatusOr<uint64_t> base = ParseSize(pair.second);
    if (!base.ok()) return Annotate(base.status(), "base");
    spec->base = *base;
  } else if (pair.first == "backing") {
    return node::ParseBacking(pair.second, &spec->backing);
  } else {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown key \"", pair.first, "\" (known: base, backing, ro)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<RegionSpec> Parse(const std::string& text) {
  const std::vector<std::string> words = absl::StrSplit(text, ',');
  const std::pair<std::string, std::string> first =
      absl::StrSplit(words.front(), absl::MaxSplits('=', 1));
  RegionSpec spec;
  spec.name = first.first;
  if (!IsName(spec.name) || first.second.empty()) {
    return absl::InvalidArgumentError(
        "wants NAME=SIZE, the name of letters, digits, '.', '_' and '-', as in data=8G");
  }
  OXMEM_ASSIGN_OR_RETURN(spec.backing.size_bytes, ParseSize(first.second));
  if (spec.backing.size_bytes == 0) {
    return absl::InvalidArgumentError("the size must not be zero");
  }
  std::set<std::string> keys;
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::string key = words[i].substr(0, words[i].find('='));
    if (!keys.insert(key).second) {
      return absl::InvalidArgumentError(absl::StrCat("key \"", key, "\" is there twice"));
    }
    OXMEM_RETURN_IF_ERROR(ParseKey(words[i], &spec));
  }
  spec.backing.read_only = spec.read_only;
  return spec;
}

}  // namespace

absl::StatusOr<RegionSpec> ParseRegionSpec(const std::string& text) {
  absl::StatusOr<RegionSpec> spec = Parse(text);
  if (!spec.ok()) return Annotate(spec.status(), absl::StrCat("region \"", text, "\""));
  return spec;
}

}  // namespace oxmem::apps
