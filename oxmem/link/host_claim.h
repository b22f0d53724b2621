#ifndef OXMEM_LINK_HOST_CLAIM_H_
#define OXMEM_LINK_HOST_CLAIM_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "transport/base/unique_fd.h"

namespace oxmem::link {

// Claims `what` for this process within the network namespace of the thread, until the descriptor
// is closed or the process ends, however it ends. kAlreadyExists names the process that has it.
// At most 90 characters.
absl::StatusOr<UniqueFd> ClaimOnHost(std::string_view what);

}  // namespace oxmem::link

#endif  // OXMEM_LINK_HOST_CLAIM_H_
