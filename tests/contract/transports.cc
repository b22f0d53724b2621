#include "tests/contract/compose_transports.h"
#include "tests/contract/harness.h"
#include "tests/contract/local_transports.h"
#include "tests/contract/tloe_transports.h"

namespace oxmem::transport {

std::vector<Transport> AllTransports() {
  std::vector<Transport> all = {
      MemoryTransport(),
      SharedTransport(),
      SharedFileTransport(),
      TloeTransport(tloe::Protocol::k11, 1500),
      TloeTransport(tloe::Protocol::k11, 9000),
      TloeTransport(tloe::Protocol::k103, 1500),
  };
  for (Transport& composed : ComposedTransports()) all.push_back(std::move(composed));
  return all;
}

}  // namespace oxmem::transport
