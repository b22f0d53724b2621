#include "oxmem/tloe/credits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace oxmem::tloe {
namespace {

using tilelink::Channel;

TEST(SendCredits, AMessageNeedsAsManyAsItHasFlits) {
  SendCredits credits;
  credits.Reset();
  EXPECT_FALSE(credits.Allows(Channel::kA, 1));
  credits.Add(Channel::kA, 4);
  EXPECT_TRUE(credits.Allows(Channel::kA, 16));
  EXPECT_FALSE(credits.Allows(Channel::kA, 17));
  EXPECT_FALSE(credits.Allows(Channel::kB, 1)) << "channels are counted apart";
  credits.Spend(Channel::kA, 10);
  EXPECT_TRUE(credits.Allows(Channel::kA, 6));
  EXPECT_FALSE(credits.Allows(Channel::kA, 7));
  credits.Add(Channel::kA, 0);
  EXPECT_TRUE(credits.Allows(Channel::kA, 7));
}

TEST(SendCredits, EndlessGrantsDoNotWrap) {
  SendCredits credits;
  credits.Reset();
  for (int i = 0; i < 10000; ++i) credits.Add(Channel::kD, 31);
  const uint64_t most = credits.available(Channel::kD);
  credits.Add(Channel::kD, 31);
  EXPECT_EQ(credits.available(Channel::kD), most);
  EXPECT_GE(most, uint64_t{1} << 31);
}

TEST(SendCredits, UnenforcedOnesAlwaysAllow) {
  SendCredits credits;
  credits.Reset(false);
  EXPECT_TRUE(credits.Allows(Channel::kA, 1000));
  credits.Spend(Channel::kA, 1000);
  EXPECT_EQ(credits.available(Channel::kA), 0u);
}

ReceiveCredits Of(const ReceiveCredits::Flits& capacity, uint32_t worthwhile = 0) {
  ReceiveCredits credits;
  credits.Reset(capacity, worthwhile);
  return credits;
}

std::map<Channel, uint64_t> TakeAll(ReceiveCredits& credits, int* frames = nullptr) {
  std::map<Channel, uint64_t> taken;
  while (const auto grant = credits.TakeGrant()) {
    taken[grant->channel] += uint64_t{1} << grant->exponent;
    if (frames != nullptr) ++*frames;
  }
  return taken;
}

TEST(ReceiveCredits, TheFirstGrantsAreTheBuffersInTheOrderOfTheChannels) {
  ReceiveCredits credits = Of({1 << 16, 1 << 10, 1 << 12, 1 << 16, 1 << 10});
  std::vector<std::pair<char, int>> grants;
  while (const auto grant = credits.TakeGrant())
    grants.emplace_back(tilelink::LetterOf(grant->channel), grant->exponent);
  EXPECT_THAT(grants, testing::ElementsAre(testing::Pair('A', 16), testing::Pair('B', 10),
                                           testing::Pair('C', 12), testing::Pair('D', 16),
                                           testing::Pair('E', 10)));
  EXPECT_FALSE(credits.urgent());
  EXPECT_FALSE(credits.due());
}

TEST(ReceiveCredits, ALargeOddGrantTakesSeveralFrames) {
  ReceiveCredits credits = Of({1000, 0, 0, 0, 0});
  int frames = 0;
  EXPECT_THAT(TakeAll(credits, &frames), testing::ElementsAre(testing::Pair(Channel::kA, 1000)));
  EXPECT_EQ(frames, 6) << "512 256 128 64 32 8";
}

TEST(ReceiveCredits, WhatIsConsumedIsGrantedAgain) {
  ReceiveCredits credits = Of({64, 0, 0, 0, 0});
  TakeAll(credits);
  EXPECT_TRUE(credits.OnReceived(Channel::kA, 10));
  EXPECT_EQ(credits.granted(Channel::kA), 54u);
  EXPECT_FALSE(credits.TakeGrant().has_value()) << "held messages are not granted";
  credits.OnConsumed(Channel::kA, 10);
  EXPECT_THAT(TakeAll(credits), testing::ElementsAre(testing::Pair(Channel::kA, 10)));
  EXPECT_EQ(credits.granted(Channel::kA), 64u);
}

TEST(ReceiveCredits, MoreThanGrantedIsAViolationAndGivesNothingBack) {
  ReceiveCredits credits = Of({16, 0, 0, 0, 0});
  TakeAll(credits);
  EXPECT_TRUE(credits.OnReceived(Channel::kA, 10));
  EXPECT_FALSE(credits.OnReceived(Channel::kA, 10));
  credits.OnConsumed(Channel::kA, 10);
  credits.OnConsumed(Channel::kA, 10);
  TakeAll(credits);
  EXPECT_EQ(credits.granted(Channel::kA), 16u);
}

TEST(ReceiveCredits, GrantedHeldAndWaitingAreTheBufferAtAllTimes) {
  ReceiveCredits credits = Of({100, 0, 0, 40, 0});
  uint32_t held = 0;
  for (uint32_t i = 1; i < 1000; ++i) {
    if (i % 3 != 0) {
      const uint32_t flits = std::min(credits.granted(Channel::kA), i % 7);
      ASSERT_TRUE(credits.OnReceived(Channel::kA, flits));
      held += flits;
    } else {
      const uint32_t flits = std::min(held, i % 11);
      credits.OnConsumed(Channel::kA, flits);
      held -= flits;
    }
    if (i % 5 == 0) credits.TakeGrant();
    ASSERT_EQ(credits.granted(Channel::kA) + credits.waiting(Channel::kA) + held, 100u);
  }
}

TEST(ReceiveCredits, AQuarterOfABufferIsUrgent) {
  ReceiveCredits credits = Of({64, 0, 0, 0, 0});
  EXPECT_TRUE(credits.urgent());
  TakeAll(credits);
  credits.OnReceived(Channel::kA, 20);
  credits.OnConsumed(Channel::kA, 15);
  EXPECT_FALSE(credits.urgent());
  credits.OnConsumed(Channel::kA, 1);
  EXPECT_TRUE(credits.urgent());
}

TEST(ReceiveCredits, SmallReturnsAreDueWhenThePeerMayBeShort) {
  ReceiveCredits credits = Of({64, 0, 0, 0, 0}, 60);
  TakeAll(credits);
  credits.OnReceived(Channel::kA, 5);
  EXPECT_FALSE(credits.due()) << "nothing waits";
  credits.OnConsumed(Channel::kA, 1);
  EXPECT_FALSE(credits.urgent());
  EXPECT_TRUE(credits.due());
  TakeAll(credits);
  EXPECT_FALSE(credits.due());
}

TEST(ReceiveCredits, ChannelsTakeTurns) {
  ReceiveCredits credits = Of({1024, 1024, 1024, 1024, 1024});
  TakeAll(credits);
  for (int i = 0; i < tilelink::kChannelCount; ++i) {
    const auto channel = tilelink::ChannelAt(static_cast<std::size_t>(i));
    credits.OnReceived(channel, 200);
    credits.OnConsumed(channel, 200);  // 128 + 64 + 8
  }
  std::string turns;
  while (const auto grant = credits.TakeGrant()) turns += tilelink::LetterOf(grant->channel);
  EXPECT_EQ(turns, "ABCDEABCDEABCDE");
}

TEST(ReceiveCredits, AnUrgentChannelGoesFirst) {
  ReceiveCredits credits = Of({1024, 0, 0, 1024, 0});
  TakeAll(credits);
  credits.OnReceived(Channel::kA, 8);
  credits.OnConsumed(Channel::kA, 8);
  credits.OnReceived(Channel::kD, 512);
  credits.OnConsumed(Channel::kD, 512);
  EXPECT_EQ(credits.TakeGrant()->channel, Channel::kD);
  EXPECT_EQ(credits.TakeGrant()->channel, Channel::kA);
}

}  // namespace
}  // namespace oxmem::tloe
