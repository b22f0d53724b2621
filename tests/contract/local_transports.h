#ifndef TESTS_CONTRACT_LOCAL_TRANSPORTS_H_
#define TESTS_CONTRACT_LOCAL_TRANSPORTS_H_

#include "tests/contract/harness.h"

namespace oxmem::transport {

Transport MemoryTransport();

}  // namespace oxmem::transport

#endif  // TESTS_CONTRACT_LOCAL_TRANSPORTS_H_
