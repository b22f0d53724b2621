#include "fs/fuse/attribute_store.h"

#include <sys/wait.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace oxmem::fs {
namespace {

AttributeStore::Attributes Some(int64_t seconds) {
  return {.mode = 0100640,
          .uid = 12,
          .gid = 4000000000,
          .accessed = {.tv_sec = seconds, .tv_nsec = 1},
          .modified = {.tv_sec = -seconds, .tv_nsec = 2},
          .changed = {.tv_sec = seconds + 1, .tv_nsec = 999999999},
          .memory = {.backing_id = -static_cast<int32_t>(seconds),
                     .device = ~uint64_t{0},
                     .inode = static_cast<uint64_t>(seconds),
                     .generation = 4000000000,
                     .lookups = static_cast<int32_t>(seconds % 3)}};
}

void ExpectSame(const AttributeStore::Attributes& a, const AttributeStore::Attributes& b) {
  EXPECT_EQ(a.mode, b.mode);
  EXPECT_EQ(a.uid, b.uid);
  EXPECT_EQ(a.gid, b.gid);
  EXPECT_EQ(a.accessed.tv_sec, b.accessed.tv_sec);
  EXPECT_EQ(a.accessed.tv_nsec, b.accessed.tv_nsec);
  EXPECT_EQ(a.modified.tv_sec, b.modified.tv_sec);
  EXPECT_EQ(a.modified.tv_nsec, b.modified.tv_nsec);
  EXPECT_EQ(a.changed.tv_sec, b.changed.tv_sec);
  EXPECT_EQ(a.changed.tv_nsec, b.changed.tv_nsec);
  EXPECT_EQ(a.memory, b.memory);
}

TEST(AttributeStore, KeepsWhatWasSetLast) {
  const auto store = AttributeStore::Create(2);
  ASSERT_TRUE(store.ok()) << store.status();
  for (int64_t round = 1; round < 4; ++round) {
    (*store)->Set(0, Some(round));
    (*store)->Set(1, Some(100 * round));
    ExpectSame((*store)->Get(0), Some(round));
    ExpectSame((*store)->Get(1), Some(100 * round));
  }
  EXPECT_EQ((*store)->written_ns(1), 0);
  (*store)->set_written_ns(1, 77);
  EXPECT_EQ((*store)->written_ns(1), 77);
  EXPECT_EQ((*store)->written_ns(0), 0);
}

TEST(AttributeStore, AnotherOneOfTheSameMemoryGoesOn) {
  auto store = AttributeStore::Create(3);
  ASSERT_TRUE(store.ok()) << store.status();
  (*store)->Set(2, Some(5));
  (*store)->set_written_ns(2, 6);
  UniqueFd copy(dup((*store)->fd()));
  store->reset();
  const auto next = AttributeStore::Adopt(std::move(copy), 3);
  ASSERT_TRUE(next.ok()) << next.status();
  ExpectSame((*next)->Get(2), Some(5));
  EXPECT_EQ((*next)->written_ns(2), 6);
}

TEST(AttributeStore, MemoryOfAnotherSizeIsRefused) {
  const auto store = AttributeStore::Create(3);
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_FALSE(AttributeStore::Adopt(UniqueFd(dup((*store)->fd())), 2).ok());
  EXPECT_FALSE(AttributeStore::Adopt(UniqueFd(dup((*store)->fd())), 4).ok());
  EXPECT_FALSE(AttributeStore::Adopt(UniqueFd(), 3).ok());
}

TEST(AttributeStore, IsClaimedByOneProcess) {
  const auto store = AttributeStore::Create(1);
  ASSERT_TRUE(store.ok()) << store.status();
  const auto claimed_by_another = [&store] {
    const pid_t child = fork();
    if (child == 0) _exit(absl::IsAborted((*store)->Claim()) ? 1 : 0);
    int status = 0;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    return status == 0;
  };
  EXPECT_FALSE(claimed_by_another());
  (*store)->Release();
  EXPECT_TRUE(claimed_by_another());
  EXPECT_TRUE((*store)->Claim().ok()) << "the claim ends with the process";
}

}  // namespace
}  // namespace oxmem::fs
