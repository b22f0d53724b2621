#include "apps/common/cpu_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace oxmem::apps {
namespace {

using ::testing::ElementsAre;

TEST(CpuPlacement, ReadsNumbersAndRanges) {
  EXPECT_THAT(*ParseCpuList("3"), ElementsAre(3));
  EXPECT_THAT(*ParseCpuList("4,0-2"), ElementsAre(4, 0, 1, 2));
  for (const char* wrong : {"", "a", "1,", "2-1", "1-2-3", "-1", "99999"}) {
    EXPECT_FALSE(ParseCpuList(wrong).ok()) << wrong;
  }
}

TEST(CpuPlacement, PinsTheCallingThreadAlone) {
  std::thread([] {
    const int here = sched_getcpu();
    ASSERT_TRUE(PinThread(here).ok());
    cpu_set_t set;
    ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
    EXPECT_EQ(CPU_COUNT(&set), 1);
  }).join();
  const absl::Status status = PinThread(1023);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("cannot use CPU 1023"));
}

}  // namespace
}  // namespace oxmem::apps
