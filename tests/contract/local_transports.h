#ifndef TESTS_CONTRACT_LOCAL_TRANSPORTS_H_
#define TESTS_CONTRACT_LOCAL_TRANSPORTS_H_

#include "tests/contract/harness.h"

namespace oxmem::transport {

Transport MemoryTransport();

// A node on this host whose memory is new after each of its returns, and one with a file that it
// keeps.
Transport SharedTransport();
Transport SharedFileTransport();

}  // namespace oxmem::transport

#endif  // TESTS_CONTRACT_LOCAL_TRANSPORTS_H_
