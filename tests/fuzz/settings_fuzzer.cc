// What users and their files say about mounts and regions: any text is understood or is an error
// that says something, and what was understood lies within its bounds.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "apps/mount/mount_config.h"
#include "apps/mount/mount_spec.h"
#include "apps/serve/region_spec.h"
#include "oxmem/link/mac_address.h"
#include "transport/base/check.h"
#include "transport/base/duration_text.h"
#include "transport/base/size.h"

namespace {

using oxmem::Duration;

bool IsGood(const absl::Status& status) {
  OXMEM_CHECK(status.ok() || !status.message().empty());
  return status.ok();
}

void CheckMount(const absl::StatusOr<oxmem::apps::MountSpec>& spec) {
  if (!IsGood(spec.status())) return;
  OXMEM_CHECK(!spec->sources.empty() && spec->sources.size() == spec->files.size());
  OXMEM_CHECK(!spec->threads.has_value() || *spec->threads >= 1);
  OXMEM_CHECK(spec->stats_interval > Duration());
  OXMEM_CHECK(!spec->options.directory.empty());
  for (const oxmem::fs::MountFile& file : spec->files) {
    OXMEM_CHECK(!file.name.empty() && file.name.find('/') == std::string::npos);
    OXMEM_CHECK(file.name.find('\0') == std::string::npos);
  }
}

void CheckNumbers(std::string_view text) {
  if (const auto size = oxmem::ParseSize(text); IsGood(size.status())) {
    OXMEM_CHECK(*oxmem::ParseSize(oxmem::FormatSize(*size)) == *size);
  }
  if (const auto time = oxmem::ParseDuration(text); IsGood(time.status())) {
    OXMEM_CHECK(*time >= Duration());
    OXMEM_CHECK(*oxmem::ParseDuration(oxmem::FormatDuration(*time)) == *time);
    // Any clock that runs since the machine started goes on that long.
    OXMEM_CHECK(time->nanoseconds() < INT64_MAX / 2);
  }
  if (const auto mac = oxmem::link::ParseMacAddress(text); IsGood(mac.status())) {
    OXMEM_CHECK(*oxmem::link::ParseMacAddress(oxmem::link::FormatMacAddress(*mac)) == *mac);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] & 3) {
    case 0:
      CheckMount(oxmem::apps::ParseMountConfig("file", text, {}));
      break;
    case 1:
      CheckMount(oxmem::apps::ParseMountSpec({"mem:", "unix:/s?region=r", "/mnt"}, {text}));
      break;
    case 2:
      if (const auto region = oxmem::apps::ParseRegionSpec(text); IsGood(region.status())) {
        OXMEM_CHECK(!region->name.empty() && region->backing.size_bytes > 0);
      }
      break;
    default:
      CheckNumbers(text);
      break;
  }
  return 0;
}
