#include "transport/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace oxmem::internal {

void CheckFailed(const char* expression, const char* file, int line) {
  std::fprintf(stderr, "oxmem: internal error: %s does not hold at %s:%d\n", expression, file,
               line);
  std::abort();
}

}  // namespace oxmem::internal
