// Requesters and a node through everything a network and its hosts do wrong.

#include "gtest/gtest.h"
#include "tests/sim/memory_world.h"
#include "tests/sim/seeds.h"

namespace oxmem::sim {
namespace {

using tloe::Protocol;

// Requests end at their deadline of 2 s at the latest, and a requester looks for its node at least
// once a second.
constexpr Duration kIdleBy = Duration::Seconds(4);

Faults RandomFaults(Random& random) {
  const auto up_to = [&random](double most) {
    return random.Chance(0.5) ? most * static_cast<double>(random.Below(1001)) / 1000 : 0.0;
  };
  Faults faults;
  faults.loss = up_to(0.10);
  faults.duplication = up_to(0.10);
  faults.reorder = up_to(0.10);
  faults.corruption = up_to(0.10);
  faults.stall = up_to(0.002);
  faults.delay = Duration::Microseconds(1 + static_cast<int64_t>(random.Below(200)));
  if (random.Chance(0.3)) faults.bytes_per_second = (10 + random.Below(200)) << 20;
  return faults;
}

class MemorySim : public testing::TestWithParam<Protocol> {};

INSTANTIATE_TEST_SUITE_P(, MemorySim, testing::Values(Protocol::k103, Protocol::k11),
                         [](const auto& protocol) {
                           return protocol.param == Protocol::k11 ? "v11" : "v103";
                         });

TEST_P(MemorySim, ContentsAreRightAndEverythingCompletesOnceThroughFaults) {
  ForEachSeed(400, [](uint64_t seed) {
    MemoryWorld world(seed, {.protocol = GetParam()});
    world.RunFor(Duration::Milliseconds(5), false);
    world.network().SetFaults(RandomFaults(world.random()));
    world.RunFor(Duration::Milliseconds(60), true);
    world.network().SetFaults({});
    EXPECT_TRUE(world.RunUntilIdle(kIdleBy)) << "operations are still under way";
    world.CheckMemory();
    EXPECT_EQ(world.error(), "");
    EXPECT_EQ(world.failed(), 0u) << "faults without the loss of a peer fail nothing";
    EXPECT_GT(world.succeeded(), 0u);
  });
}

TEST_P(MemorySim, ARestartedNodeLosesNoWriteAndIsFoundAgain) {
  ForEachSeed(200, [](uint64_t seed) {
    MemoryWorld world(seed, {.protocol = GetParam()});
    world.RunFor(Duration::Milliseconds(5), false);
    world.network().SetFaults(RandomFaults(world.random()));
    for (int i = 0; i < 3; ++i) {
      world.RunFor(Duration::Milliseconds(static_cast<int64_t>(1 + world.random().Below(30))),
                   true);
      world.KillNode();
      world.RunFor(Duration::Milliseconds(static_cast<int64_t>(world.random().Below(200))), true);
      world.StartNode();
    }
    world.network().SetFaults({});
    EXPECT_TRUE(world.RunUntilIdle(kIdleBy)) << "operations are still under way";
    const uint64_t before = world.succeeded();
    world.RunFor(Duration::Milliseconds(20), true);
    EXPECT_TRUE(world.RunUntilIdle(kIdleBy));
    EXPECT_GT(world.succeeded(), before) << "the node was not found again";
    world.CheckMemory();
    EXPECT_EQ(world.error(), "");
  });
}

TEST_P(MemorySim, ARestartedRequesterIsServedAgain) {
  ForEachSeed(150, [](uint64_t seed) {
    MemoryWorld world(seed, {.protocol = GetParam()});
    world.network().SetFaults(RandomFaults(world.random()));
    for (int i = 0; i < 3; ++i) {
      world.RunFor(Duration::Milliseconds(static_cast<int64_t>(1 + world.random().Below(30))),
                   true);
      world.RestartRequester();
    }
    world.network().SetFaults({});
    EXPECT_TRUE(world.RunUntilIdle(kIdleBy)) << "operations are still under way";
    const uint64_t before = world.succeeded();
    world.RunFor(Duration::Milliseconds(20), true);
    EXPECT_TRUE(world.RunUntilIdle(kIdleBy));
    EXPECT_GT(world.succeeded(), before);
    world.CheckMemory();
    EXPECT_EQ(world.error(), "");
  });
}

TEST_P(MemorySim, ANodeThatNeverComesBackFailsEverythingByItsDeadline) {
  ForEachSeed(50, [](uint64_t seed) {
    MemoryWorld world(seed, {.protocol = GetParam()});
    world.RunFor(Duration::Milliseconds(10), true);
    world.KillNode();
    world.RunFor(Duration::Milliseconds(50), true);
    EXPECT_TRUE(world.RunUntilIdle(Duration::Milliseconds(2010)));
    EXPECT_EQ(world.error(), "");
  });
}

TEST_P(MemorySim, ChangedBytesNeitherCrashNorHangNorLoseACompletion) {
  ForEachSeed(200, [](uint64_t seed) {
    MemoryWorld world(seed, {.protocol = GetParam(), .check_contents = false});
    Faults faults = RandomFaults(world.random());
    faults.corruption = 0.001 + static_cast<double>(world.random().Below(100)) / 1000;
    faults.frame_check = false;
    world.network().SetFaults(faults);
    world.RunFor(Duration::Milliseconds(60), true);
    world.network().SetFaults({});
    EXPECT_TRUE(world.RunUntilIdle(kIdleBy)) << "operations are still under way";
    EXPECT_EQ(world.error(), "");
  });
}

// Requests may reach their deadlines here, and what a restarted requester wrote may arrive long
// after; what must not be is that it is taken for a smaller MTU.
TEST_P(MemorySim, AWayThatQueuesForSecondsAndLosesByChanceMakesNoFramesShorter) {
  ForEachSeed(30, [](uint64_t seed) {
    MemoryWorld world(seed, {.protocol = GetParam(), .check_contents = false});
    Faults faults = RandomFaults(world.random());
    faults.loss = 0.01 * static_cast<double>(1 + world.random().Below(10));
    faults.corruption = 0;
    faults.stall = 0.0005;
    faults.stall_time = Duration::Milliseconds(static_cast<int64_t>(world.random().Below(2500)));
    faults.bytes_per_second = (1 + world.random().Below(100)) << 20;
    // At once: nothing long has come through yet.
    if (world.random().Chance(0.5)) world.RunFor(Duration::Milliseconds(5), false);
    world.network().SetFaults(faults);
    for (int i = 0; i < 3; ++i) {
      world.RunFor(Duration::Milliseconds(700), true);
      EXPECT_FALSE(world.has_shortened());
      world.RestartRequester();
    }
    world.network().SetFaults({});
    EXPECT_TRUE(world.RunUntilIdle(kIdleBy)) << "operations are still under way";
    EXPECT_FALSE(world.has_shortened());
    EXPECT_EQ(world.error(), "");
  });
}

}  // namespace
}  // namespace oxmem::sim
