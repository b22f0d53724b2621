#include "transport/base/check.h"

#include "gtest/gtest.h"

namespace oxmem {
namespace {

TEST(CheckDeathTest, ABrokenInvariantNamesItselfAndItsPlace) {
  const int one = 1;
  OXMEM_CHECK(one == 1);
  EXPECT_DEATH(OXMEM_CHECK(one == 2),
               "oxmem: internal error: one == 2 does not hold at .*check_test");
}

TEST(Check, EvaluatesItsConditionOnce) {
  int count = 0;
  OXMEM_CHECK(++count == 1);
  EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace oxmem
