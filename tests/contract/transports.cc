#include "tests/contract/harness.h"
#include "tests/contract/local_transports.h"
#include "tests/contract/tloe_transports.h"

namespace oxmem::transport {

std::vector<Transport> AllTransports() {
  return {
      MemoryTransport(),
      TloeTransport(tloe::Protocol::k11, 1500),
      TloeTransport(tloe::Protocol::k11, 9000),
      TloeTransport(tloe::Protocol::k103, 1500),
  };
}

}  // namespace oxmem::transport
