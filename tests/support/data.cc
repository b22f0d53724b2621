#include "tests/support/data.h"

namespace oxmem::test {

// The one source that is compiled with the checkout's path, so that the others give the same
// object wherever they are built.
std::string DataPath(const std::string& name) { return OXMEM_TEST_DATA "/" + name; }

}  // namespace oxmem::test
