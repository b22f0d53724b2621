#include "oxmem/channel/split.h"

#include <cstdint>
#include <random>
#include <vector>

#include "gmock/gmock.h"
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

constexpr std::size_t kEthernetFlits = (1500 - 16) / 8;

TEST(FillFor, TwoSmallMessagesFillAnEthernetFrame) {
  const FrameFill answers = FillFor(kEthernetFlits, 1, 10, 64);
  EXPECT_EQ(answers.small_count, 2u);
  EXPECT_EQ(answers.bytes(), 1024u + 256 + 128);
  EXPECT_EQ(FillFor(kEthernetFlits, 2, 10, 64).bytes(), 1024u + 256 + 128);
}

TEST(FillFor, AFrameThatIsNearlyFullIsLeftAlone) {
  EXPECT_EQ(FillFor((9000 - 16) / 8, 1, 13, 64).small_count, 0u);
  EXPECT_EQ(FillFor(129, 1, 10, 64).small_count, 0u);
  EXPECT_EQ(FillFor(kEthernetFlits, 1, 10, 1).small_count, 0u);
}

TEST(FillFor, TheLargeMessageStartsWhereTheMaskReaches) {
  for (std::size_t flits = 20; flits < 1200; ++flits) {
    for (uint8_t largest = 4; largest <= 13; ++largest) {
      const FrameFill fill = FillFor(flits, 1, largest, 64);
      std::size_t start = 0;
      for (std::size_t i = 0; i < fill.small_count; ++i) {
        start += 1 + (std::size_t{1} << fill.small[i]) / 8;
      }
      ASSERT_LE(start, 63u);
      if (fill.small_count != 0) {
        ASSERT_LE(start + 1 + (std::size_t{1} << largest) / 8, flits);
      }
    }
  }
}

TEST(NextPiece, LongRequestsGoInFilledFrames) {
  const FrameFill fill = FillFor(kEthernetFlits, 1, 10, 64);
  uint64_t sent = 0;
  uint64_t messages = 0;
  std::vector<uint8_t> first;
  for (; sent < 262144; ++messages) {
    const Piece piece = NextPiece(0, 262144, sent, 10, fill);
    if (messages < 6) first.push_back(piece.size);
    sent += uint64_t{1} << piece.size;
  }
  EXPECT_THAT(first, testing::ElementsAre(8, 7, 10, 8, 7, 10));
  EXPECT_LE(messages, 3 * (262144 / fill.bytes()) + 2);
}

TEST(NextPiece, AnyRangeIsCoveredOnceByAlignedMessages) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 400; ++i) {
    const uint64_t address = random() % 100000;
    const uint64_t length = 1 + random() % 60000;
    const auto largest = static_cast<uint8_t>(5 + random() % 9);
    const FrameFill fill = FillFor(8 + random() % 300, 1 + random() % 2, largest, 64);
    std::vector<bool> covered(length);
    uint64_t sent = 0;
    while (sent < length) {
      const Piece piece = NextPiece(address, length, sent, largest, fill);
      const uint64_t bytes = uint64_t{1} << piece.size;
      ASSERT_EQ((address + piece.offset) % bytes, 0u);
      ASSERT_LE(piece.size, largest);
      ASSERT_LE(piece.offset + bytes, length);
      for (uint64_t at = piece.offset; at < piece.offset + bytes; ++at) {
        ASSERT_FALSE(covered[at]) << address << " " << length << " " << at;
        covered[at] = true;
      }
      sent += bytes;
    }
    ASSERT_EQ(sent, length);
  }
}

}  // namespace
}  // namespace oxmem::channel
