#ifndef TESTS_OXMEM_TLOE_PEERS_CAPTURES_H_
#define TESTS_OXMEM_TLOE_PEERS_CAPTURES_H_

#include <string>
#include <vector>

#include "oxmem/tloe/config.h"
#include "tests/support/capture.h"
#include "tests/support/data.h"

namespace oxmem::tloe {

// What the tests with scripted peers share.
inline constexpr std::size_t kMemory = 64 * 1024;

inline std::vector<test::CapturedFrame> Capture(const std::string& name) {
  return test::ReadCapture(test::DataPath("omnixtend/" + name));
}

inline EngineConfig ConfigOf(Role role) {
  EngineConfig config;
  config.role = role;
  return config;
}

}  // namespace oxmem::tloe

#endif  // TESTS_OXMEM_TLOE_PEERS_CAPTURES_H_
