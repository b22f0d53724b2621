#include "oxmem/channel/split.h"

#include <cstdint>
#include <random>

#include "gtest/gtest.h"

namespace oxmem::channel {
namespace {

TEST(Split, AlignedRangesGoInTheLargestMessages) {
  EXPECT_EQ(NextMessageSize(0, 4096, 10), 10);
  EXPECT_EQ(NextMessageSize(4096, 4096, 15), 12);
  EXPECT_EQ(NextMessageSize(0, uint64_t{1} << 40, 13), 13);
}

TEST(Split, AlignmentAndLengthLimitTheMessage) {
  EXPECT_EQ(NextMessageSize(1, 4096, 13), 0);
  EXPECT_EQ(NextMessageSize(8, 4096, 13), 3);
  EXPECT_EQ(NextMessageSize(4096, 7, 13), 2);
  EXPECT_EQ(NextMessageSize(UINT64_MAX, 1, 13), 0);
}

TEST(Split, AnyRangeIsCoveredOnceByAlignedMessages) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    const uint64_t begin = random() % 100000;
    const uint64_t length = 1 + random() % 20000;
    const auto limit = static_cast<uint8_t>(3 + random() % 12);
    uint64_t done = 0;
    int messages = 0;
    while (done < length) {
      const uint64_t bytes = uint64_t{1} << NextMessageSize(begin + done, length - done, limit);
      ASSERT_EQ((begin + done) % bytes, 0u);
      ASSERT_LE(bytes, uint64_t{1} << limit);
      done += bytes;
      ++messages;
    }
    ASSERT_EQ(done, length);
    ASSERT_LE(messages, static_cast<int>(length >> limit) + 2 * limit + 2);
  }
}

}  // namespace
}  // namespace oxmem::channel
