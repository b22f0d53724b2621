#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <random>

#include "oxmem/tloe/byte_ring.h"
#include "oxmem/tloe/receive_buffer.h"
#include "oxmem/tloe/receive_window.h"
#include "oxmem/tloe/send_window.h"
#include "tests/oxmem/tloe/engine_pair.h"

namespace oxmem::tloe {
namespace {

using Place = ReceiveWindow::Place;

SequenceNumber Number(uint32_t value) { return SequenceNumber::FromWire(value); }

TEST(ReceiveWindow, SortsNumbersAsTheSpecificationDoes) {
  ReceiveWindow window;
  window.Reset(Number(100), false);
  EXPECT_EQ(window.Classify(Number(100)), Place::kInOrder);
  EXPECT_EQ(window.Classify(Number(99)), Place::kDuplicate);
  EXPECT_EQ(window.Classify(Number(101)), Place::kGap);
  // (NEXT_RX_SEQ - number) mod 2^22 up to 2^21, inclusive, is a duplicate.
  EXPECT_EQ(window.Classify(Number(100 + SequenceNumber::kHalf)), Place::kDuplicate);
  EXPECT_EQ(window.Classify(Number(100 + SequenceNumber::kHalf - 1)), Place::kGap);
  window.Accept(Number(100));
  EXPECT_EQ(window.expected(), Number(101));
  EXPECT_EQ(window.last(), Number(100));
  EXPECT_EQ(window.Classify(Number(100)), Place::kDuplicate);
}

TEST(ReceiveWindow, GoesOnAcrossTheWrap) {
  ReceiveWindow window;
  window.Reset(Number(SequenceNumber::kModulus - 1), false);
  window.Accept(Number(SequenceNumber::kModulus - 1));
  EXPECT_EQ(window.expected(), Number(0));
  EXPECT_EQ(window.Classify(Number(0)), Place::kInOrder);
  EXPECT_EQ(window.Classify(Number(SequenceNumber::kModulus - 1)), Place::kDuplicate);
}

TEST(ReceiveWindow, FromPeersThatNeverResendAGapIsTakenAndALateFrameOnce) {
  ReceiveWindow window;
  window.Reset(Number(0), true);
  window.Accept(Number(0));
  EXPECT_EQ(window.Classify(Number(5)), Place::kInOrder);
  window.Accept(Number(5));
  EXPECT_EQ(window.expected(), Number(6));
  EXPECT_EQ(window.Classify(Number(5)), Place::kDuplicate);
  EXPECT_EQ(window.Classify(Number(3)), Place::kInOrder);
  window.Accept(Number(3));
  EXPECT_EQ(window.Classify(Number(3)), Place::kDuplicate);
  EXPECT_EQ(window.expected(), Number(6));
  EXPECT_EQ(window.Classify(Number(0)), Place::kDuplicate);
  // Numbers from before the first are no late frames.
  EXPECT_EQ(window.Classify(Number(SequenceNumber::kModulus - 1)), Place::kDuplicate);
}

TEST(ReceiveWindow, AfterAWideGapTheFramesBeforeItCountAsMissing) {
  ReceiveWindow window;
  window.Reset(Number(0), true);
  window.Accept(Number(200));
  EXPECT_EQ(window.Classify(Number(200)), Place::kDuplicate);
  EXPECT_EQ(window.Classify(Number(150)), Place::kInOrder);
  EXPECT_EQ(window.Classify(Number(100)), Place::kDuplicate) << "too old to be remembered";
}

// A model: pieces in order, each contiguous, none overlapping another.
TEST(ByteRing, PiecesNeverOverlap) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    ByteRing ring(1000);
    std::deque<std::pair<std::size_t, std::size_t>> pieces;
    for (int step = 0; step < 400; ++step) {
      const std::size_t want = 1 + random() % 300;
      const auto room = ring.Room(want);
      ASSERT_EQ(ring.HasRoom(want), !room.empty());
      if (!room.empty() && random() % 3 != 0) {
        ASSERT_GE(room.size(), want);
        const std::size_t next = 1 + random() % 300;
        const bool after = ring.HasRoomAfter(room, want, next);
        const std::size_t offset = ring.Take(room, want);
        ASSERT_EQ(ring.HasRoom(next), after);
        for (const auto& [start, length] : pieces)
          ASSERT_TRUE(offset + want <= start || start + length <= offset);
        ASSERT_LE(offset + want, ring.size());
        pieces.emplace_back(offset, want);
      } else if (!pieces.empty()) {
        pieces.pop_front();
        if (pieces.empty()) {
          ring.FreeAll();
        } else {
          ring.FreeUpTo(pieces.front().first);
        }
      } else {
        ASSERT_FALSE(room.empty()) << "an empty ring had no room for " << want;
      }
    }
  }
}

TEST(ByteRing, CanBeFilledToTheLastByte) {
  ByteRing ring(100);
  ring.Take(ring.Room(60), 60);
  ring.Take(ring.Room(40), 40);
  EXPECT_FALSE(ring.HasRoom(1));
  ring.FreeUpTo(60);
  EXPECT_TRUE(ring.HasRoom(60));
  EXPECT_FALSE(ring.HasRoom(61));
  ring.Take(ring.Room(60), 60);
  EXPECT_FALSE(ring.HasRoom(1));
}

class SendWindowTest : public testing::Test {
 protected:
  SendWindowTest() { window.Reset(Number(SequenceNumber::kModulus - 2)); }

  bool Build(std::size_t length = 100) {
    const auto room = window.OpenFrame(length, 200);
    if (room.empty()) return false;
    std::fill_n(room.begin(), length, static_cast<std::byte>(window.built()));
    window.Close(length);
    return true;
  }
  void Send(int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(Build());
      window.MarkSent(At(i));
    }
  }
  std::vector<uint64_t> Resends() {
    std::vector<uint64_t> indices;
    uint64_t index = 0;
    while (window.NextResend(&index) != nullptr) indices.push_back(index);
    return indices;
  }

  SendWindow window{4, 1000};
};

TEST_F(SendWindowTest, NumbersFollowTheFirstAcrossTheWrap) {
  Send(3);
  EXPECT_EQ(window.NumberOf(0), Number(SequenceNumber::kModulus - 2));
  EXPECT_EQ(window.NumberOf(2), Number(0));
  EXPECT_EQ(window.next_number(), Number(1));
}

TEST_F(SendWindowTest, HoldsAsManyFramesAsItHasSlots) {
  Send(4);
  EXPECT_FALSE(window.HasSlot());
  EXPECT_FALSE(Build());
  window.AcknowledgeUpTo(1);
  EXPECT_TRUE(window.HasSlot());
  EXPECT_TRUE(Build());
  EXPECT_FALSE(Build());
}

TEST_F(SendWindowTest, HoldsAsManyBytesAsItsRing) {
  SendWindow small(100, 250);
  small.Reset(Number(0));
  ASSERT_FALSE(small.OpenFrame(100, 100).empty());
  small.Close(100);
  ASSERT_FALSE(small.OpenFrame(100, 100).empty());
  EXPECT_TRUE(small.HasRoomAfterOpen(100, 50));
  EXPECT_FALSE(small.HasRoomAfterOpen(100, 51));
  small.Close(100);
  EXPECT_FALSE(small.HasRoom(51));
  EXPECT_TRUE(small.OpenFrame(51, 100).empty());
}

TEST_F(SendWindowTest, AcknowledgedBytesAreUsedAgainAndOthersStay) {
  SendWindow small(100, 250);
  small.Reset(Number(0));
  for (int i = 0; i < 50; ++i) {
    const auto room = small.OpenFrame(100, 100);
    ASSERT_FALSE(room.empty()) << i;
    std::fill(room.begin(), room.end(), static_cast<std::byte>(i));
    small.Close(100);
    small.MarkSent(At(i));
    if (i == 0) continue;
    const SentFrame& before = small.At(small.acknowledged());
    EXPECT_EQ(small.BytesOf(before)[99], static_cast<std::byte>(i - 1));
    small.AcknowledgeUpTo(small.acknowledged() + 1);
  }
}

TEST_F(SendWindowTest, AFrameUnderConstructionSurvivesTheAcknowledgementOfAllOthers) {
  Send(2);
  const auto room = window.OpenFrame(100, 100);
  ASSERT_FALSE(room.empty());
  std::fill(room.begin(), room.end(), std::byte{0x77});
  window.AcknowledgeUpTo(2);
  const SentFrame& frame = window.Close(100);
  ASSERT_TRUE(Build());
  ASSERT_TRUE(Build());
  EXPECT_EQ(window.BytesOf(frame)[0], std::byte{0x77});
  EXPECT_EQ(window.BytesOf(frame)[99], std::byte{0x77});
}

TEST_F(SendWindowTest, AResendGoesFromTheFirstUnacknowledgedFrameToTheLastSent) {
  Send(3);
  ASSERT_TRUE(Build());
  EXPECT_FALSE(window.resending());
  window.AcknowledgeUpTo(1);
  window.StartResend();
  EXPECT_TRUE(window.resending());
  EXPECT_THAT(Resends(), testing::ElementsAre(1, 2));
  EXPECT_FALSE(window.resending());
}

TEST_F(SendWindowTest, AResendMayEndBeforeTheLastSent) {
  Send(3);
  window.StartResend(2);
  EXPECT_THAT(Resends(), testing::ElementsAre(0, 1));
  EXPECT_FALSE(window.resending());
  Send(1);
  EXPECT_FALSE(window.resending());
  window.AcknowledgeUpTo(2);
  window.StartResend();
  EXPECT_THAT(Resends(), testing::ElementsAre(2, 3));
}

TEST_F(SendWindowTest, KnowsTheLongestFrameThatWasAcknowledged) {
  Send(3);
  EXPECT_EQ(window.longest_acknowledged(), 0u);
  window.AcknowledgeUpTo(2);
  EXPECT_EQ(window.longest_acknowledged(), std::max(window.At(0).length, window.At(1).length));
  window.Reset(Number(0));
  EXPECT_EQ(window.longest_acknowledged(), 0u);
}

TEST_F(SendWindowTest, WhatIsAcknowledgedDuringAResendIsSkipped) {
  Send(4);
  window.StartResend();
  uint64_t index = 0;
  window.NextResend(&index);
  window.AcknowledgeUpTo(3);
  EXPECT_THAT(Resends(), testing::ElementsAre(3));
}

TEST_F(SendWindowTest, SingleAcknowledgementsFreeTheFrontWhenItIsReached) {
  Send(4);
  window.AcknowledgeOne(2);
  window.AcknowledgeOne(1);
  EXPECT_EQ(window.acknowledged(), 0u);
  window.StartResend();
  EXPECT_THAT(Resends(), testing::ElementsAre(0, 3));
  window.AcknowledgeOne(0);
  EXPECT_EQ(window.acknowledged(), 3u);
}

TEST_F(SendWindowTest, ALimitHoldsUntilReset) {
  window.LimitFrames(2);
  Send(2);
  EXPECT_FALSE(window.HasSlot());
  window.Reset(Number(0));
  EXPECT_TRUE(window.HasSlot());
  Send(4);
}

Bytes Filled(std::size_t count, int value) { return Bytes(count, static_cast<std::byte>(value)); }

TEST(ReceiveBuffer, GivesMessagesBackInOrderWhateverWraps) {
  std::mt19937 random(4);
  ReceiveBuffer buffer(64 * 1024);
  std::deque<Bytes> expected;
  int value = 0;
  for (int step = 0; step < 20000; ++step) {
    const std::size_t length = 8 * (1 + random() % 600);
    if (buffer.Fits(length) && random() % 2 == 0) {
      expected.push_back(Filled(length, ++value));
      buffer.Push(expected.back(), expected.back()[0]);
    } else if (!expected.empty()) {
      const auto front = buffer.Unread();
      ASSERT_GE(front.size(), expected.front().size());
      ASSERT_TRUE(std::equal(expected.front().begin(), expected.front().end(), front.begin()));
      buffer.Advance(expected.front().size());
      buffer.Release();
      expected.pop_front();
    }
    ASSERT_EQ(buffer.empty(), expected.empty());
  }
  EXPECT_LE(buffer.allocated_bytes(), 2u * 64 * 1024);
}

TEST(ReceiveBuffer, WhatWasReadStaysUntilItIsReleased) {
  ReceiveBuffer buffer(1000);
  buffer.Push(Filled(600, 1), std::byte{1});
  buffer.Push(Filled(400, 2), std::byte{2});
  const auto first = buffer.Unread();
  buffer.Advance(600);
  EXPECT_EQ(first[599], std::byte{1});
  EXPECT_EQ(buffer.Unread()[0], std::byte{2});
  EXPECT_FALSE(buffer.Fits(8)) << "read and not released takes room";
  buffer.Release();
  EXPECT_TRUE(buffer.Fits(600));
  EXPECT_FALSE(buffer.Fits(601));
}

TEST(ReceiveBuffer, TakesNoMemoryBeforeItIsUsed) {
  ReceiveBuffer buffer(1 << 20);
  EXPECT_EQ(buffer.allocated_bytes(), 0u);
  buffer.Push(Filled(8, 1), std::byte{1});
  EXPECT_GT(buffer.allocated_bytes(), 0u);
  EXPECT_LT(buffer.allocated_bytes(), 1u << 20);
}

}  // namespace
}  // namespace oxmem::tloe
