#ifndef FS_FUSE_NEGOTIATION_H_
#define FS_FUSE_NEGOTIATION_H_

#include <cstddef>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace oxmem::fs {

// What this program and the libfuse it runs with would answer to a kernel's FUSE_INIT. Nothing is
// mounted for it, and no kernel is told.
absl::StatusOr<std::vector<std::byte>> InitAnswerTo(std::span<const std::byte> init_request);

}  // namespace oxmem::fs

#endif  // FS_FUSE_NEGOTIATION_H_
