#ifndef TRANSPORT_BASE_STATUS_H_
#define TRANSPORT_BASE_STATUS_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace oxmem {

// A status that remembers the errno it came from: the canonical codes merge several (EIO is
// UNKNOWN, EACCES and EROFS are one), and an edge of ours must give back exactly the one that went
// in.
absl::Status ErrnoStatus(int error, std::string message);

// The errno a status carries, or the nearest one for its canonical code; 0 for an OK status.
int ErrnoOf(const absl::Status& status);

// The same status with "prefix: " before its message; payloads survive.
absl::Status Annotate(const absl::Status& status, const std::string& prefix);

}  // namespace oxmem

#define OXMEM_CONCAT_INNER(a, b) a##b
#define OXMEM_CONCAT(a, b) OXMEM_CONCAT_INNER(a, b)

#define OXMEM_RETURN_IF_ERROR(expression)                               \
  do {                                                                  \
    if (absl::Status oxmem_status = (expression); !oxmem_status.ok()) { \
      return oxmem_status;                                              \
    }                                                                   \
  } while (false)

#define OXMEM_ASSIGN_OR_RETURN(target, expression) \
  OXMEM_ASSIGN_OR_RETURN_INNER(OXMEM_CONCAT(oxmem_result_, __LINE__), target, expression)
// NOLINTBEGIN(bugprone-macro-parentheses): what is declared cannot stand in parentheses.
#define OXMEM_ASSIGN_OR_RETURN_INNER(result, target, expression) \
  auto result = (expression);                                    \
  if (!result.ok()) return result.status();                      \
  target = *std::move(result)
// NOLINTEND(bugprone-macro-parentheses)

#endif  // TRANSPORT_BASE_STATUS_H_
