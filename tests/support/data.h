#ifndef TESTS_SUPPORT_DATA_H_
#define TESTS_SUPPORT_DATA_H_

#include <string>

namespace oxmem::test {

// The path of a file under tests/data.
std::string DataPath(const std::string& name);

}  // namespace oxmem::test

#endif  // TESTS_SUPPORT_DATA_H_
