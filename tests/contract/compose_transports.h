#ifndef TESTS_CONTRACT_COMPOSE_TRANSPORTS_H_
#define TESTS_CONTRACT_COMPOSE_TRANSPORTS_H_

#include <vector>

#include "tests/contract/harness.h"

namespace oxmem::transport {

// Compositions over memory: stripes, mirrors, shims, and some of each over each other.
std::vector<Transport> ComposedTransports();

}  // namespace oxmem::transport

#endif  // TESTS_CONTRACT_COMPOSE_TRANSPORTS_H_
