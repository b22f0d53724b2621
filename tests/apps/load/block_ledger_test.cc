#include "apps/load/block_ledger.h"

#include <gtest/gtest.h>

namespace oxmem::apps {
namespace {

TEST(BlockLedger, AWriteMakesABlockKnownAndGivesItANewGeneration) {
  BlockLedger ledger(4);
  EXPECT_FALSE(ledger.known(2));
  ledger.Start(2);
  EXPECT_TRUE(ledger.busy(2));
  const uint32_t written = ledger.next_generation(2);
  ledger.EndWrite(2, true);
  EXPECT_FALSE(ledger.busy(2));
  EXPECT_TRUE(ledger.known(2));
  EXPECT_EQ(ledger.generation(2), written);
  EXPECT_FALSE(ledger.known(1));
}

TEST(BlockLedger, AFailedWriteLeavesTheBlockUnknownAndItsGenerationUsed) {
  BlockLedger ledger(1);
  ledger.Start(0);
  ledger.EndWrite(0, true);
  ledger.Start(0);
  const uint32_t failed = ledger.next_generation(0);
  ledger.EndWrite(0, false);
  EXPECT_FALSE(ledger.known(0));
  EXPECT_NE(ledger.next_generation(0), failed);
}

TEST(BlockLedger, AReadChangesNothing) {
  BlockLedger ledger(1);
  ledger.Start(0);
  ledger.EndWrite(0, true);
  const uint32_t before = ledger.generation(0);
  ledger.Start(0);
  ledger.EndRead(0);
  EXPECT_EQ(ledger.generation(0), before);
  EXPECT_TRUE(ledger.known(0));
}

}  // namespace
}  // namespace oxmem::apps
