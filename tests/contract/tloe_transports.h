#ifndef TESTS_CONTRACT_TLOE_TRANSPORTS_H_
#define TESTS_CONTRACT_TLOE_TRANSPORTS_H_

#include "oxmem/tloe/config.h"
#include "tests/contract/harness.h"

namespace oxmem::transport {

// The requester and our node on a network within the process.
Transport TloeTransport(tloe::Protocol protocol, std::size_t max_frame_bytes);

}  // namespace oxmem::transport

#endif  // TESTS_CONTRACT_TLOE_TRANSPORTS_H_
