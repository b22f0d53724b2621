#ifndef TESTS_SIM_SEEDS_H_
#define TESTS_SIM_SEEDS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace oxmem::sim {

// Runs `test(seed)` for seeds from 1 on and says which one failed. By hand:
//   OXMEM_SIM_SEED=12345 runs that one seed, OXMEM_SIM_SEEDS=100000 that many.
template <typename Test>
void ForEachSeed(uint64_t count, Test test) {
  uint64_t first = 1;
  if (const char* one = std::getenv("OXMEM_SIM_SEED")) {
    first = std::strtoull(one, nullptr, 0);
    count = 1;
  } else if (const char* many = std::getenv("OXMEM_SIM_SEEDS")) {
    count = std::strtoull(many, nullptr, 0);
  }
  for (uint64_t seed = first; seed < first + count; ++seed) {
    SCOPED_TRACE("OXMEM_SIM_SEED=" + std::to_string(seed));
    test(seed);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace oxmem::sim

#endif  // TESTS_SIM_SEEDS_H_
