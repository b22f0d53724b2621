#include "oxmem/channel/source_ids.h"

#include <set>

#include "gtest/gtest.h"

namespace oxmem::channel {
namespace {

TEST(SourceIds, NumbersUnderWayDiffer) {
  SourceIds ids(8);
  std::set<uint32_t> sources;
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(ids.available());
    sources.insert(ids.SourceOf(ids.Take()));
  }
  EXPECT_EQ(sources.size(), 8u);
  EXPECT_FALSE(ids.available());
}

TEST(SourceIds, ALateAnswerFindsNobody) {
  SourceIds ids(2);
  const uint32_t slot = ids.Take();
  const uint32_t source = ids.SourceOf(slot);
  EXPECT_EQ(ids.Find(source), slot);
  ids.Release(slot);
  EXPECT_EQ(ids.Find(source), SourceIds::kNone);
  ids.Take();
  const uint32_t again = ids.Take();
  EXPECT_EQ(again, slot) << "the slot is used again";
  EXPECT_EQ(ids.Find(source), SourceIds::kNone) << "under another number";
}

TEST(SourceIds, ASlotNotUsedIsGivenBackUnchanged) {
  SourceIds ids(4);
  const uint32_t slot = ids.Take();
  const uint32_t source = ids.SourceOf(slot);
  ids.PutBack(slot);
  EXPECT_EQ(ids.Find(source), SourceIds::kNone);
  EXPECT_EQ(ids.SourceOf(ids.Take()), source);
}

TEST(SourceIds, NumbersFitTheFieldAfterAnyNumberOfUses) {
  SourceIds ids(4096);
  for (int i = 0; i < 4096 * 5; ++i) {
    const uint32_t slot = ids.Take();
    ASSERT_LE(ids.SourceOf(slot), tilelink::kMaxSource);
    ids.Release(slot);
  }
  SourceIds one(1);
  for (int i = 0; i < 100; ++i) {
    const uint32_t slot = one.Take();
    ASSERT_EQ(one.Find(one.SourceOf(slot)), slot);
    one.Release(slot);
  }
}

}  // namespace
}  // namespace oxmem::channel
