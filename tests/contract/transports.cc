#include "tests/contract/harness.h"
#include "tests/contract/local_transports.h"

namespace oxmem::transport {

std::vector<Transport> AllTransports() {
  return {
      MemoryTransport(),
  };
}

}  // namespace oxmem::transport
