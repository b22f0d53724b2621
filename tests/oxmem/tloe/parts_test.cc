#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oxmem/tloe/ack_schedule.h"
#include "oxmem/tloe/answer_numbers.h"
#include "oxmem/tloe/long_frames.h"
#include "oxmem/tloe/peer_traits.h"
#include "oxmem/tloe/restart_suspicion.h"
#include "oxmem/tloe/round_trip.h"
#include "oxmem/tloe/sequence_number.h"
#include "tests/oxmem/tloe/engine_pair.h"

namespace oxmem::tloe {
namespace {

constexpr uint32_t kLast = SequenceNumber::kModulus - 1;

SequenceNumber Number(uint32_t value) { return SequenceNumber::FromWire(value); }

TEST(SequenceNumber, WrapsAfterTheLast) {
  EXPECT_EQ(Number(kLast).Next(), Number(0));
  EXPECT_EQ(Number(0).Previous(), Number(kLast));
  EXPECT_EQ(Number(kLast) + 3, Number(2));
  EXPECT_EQ(Number(5) + SequenceNumber::kModulus, Number(5));
}

TEST(SequenceNumber, DistanceIsCountedForward) {
  EXPECT_EQ(Number(7).DistanceFrom(Number(7)), 0u);
  EXPECT_EQ(Number(8).DistanceFrom(Number(7)), 1u);
  EXPECT_EQ(Number(7).DistanceFrom(Number(8)), kLast);
  EXPECT_EQ(Number(1).DistanceFrom(Number(kLast)), 2u);
}

TEST(SequenceNumber, TakesTheLow22Bits) {
  EXPECT_EQ(SequenceNumber::FromWire(0xffffffffffc00001u), Number(1));
}

constexpr Duration Us(int64_t n) { return Duration::Microseconds(n); }
constexpr Duration Ms(int64_t n) { return Duration::Milliseconds(n); }

TEST(RoundTrip, TheTimeoutStartsAtTheConfiguredOne) {
  const RoundTrip round_trip(Ms(20), Ms(2), Ms(500));
  EXPECT_EQ(round_trip.timeout(), Ms(20));
  EXPECT_EQ(round_trip.smoothed(), Duration());
}

TEST(RoundTrip, SteadySamplesBringTheTimeoutDownToTheMinimum) {
  RoundTrip round_trip(Ms(20), Ms(2), Ms(500));
  for (int i = 0; i < 100; ++i) round_trip.AddSample(Us(50));
  EXPECT_EQ(round_trip.smoothed(), Us(50));
  EXPECT_EQ(round_trip.timeout(), Ms(2));
}

TEST(RoundTrip, TheTimeoutLeavesRoomForTheDeviation) {
  RoundTrip round_trip(Ms(20), Ms(2), Ms(500));
  for (int i = 0; i < 200; ++i) round_trip.AddSample(i % 2 == 0 ? Ms(10) : Ms(20));
  EXPECT_GT(round_trip.timeout(), Ms(30));
  EXPECT_LT(round_trip.timeout(), Ms(50));
}

TEST(RoundTrip, EveryTimeoutDoublesUpToTheMaximumAndProgressEndsIt) {
  RoundTrip round_trip(Ms(20), Ms(2), Ms(500));
  round_trip.AddSample(Us(10));
  std::vector<Duration> timeouts;
  for (int i = 0; i < 10; ++i) {
    timeouts.push_back(round_trip.timeout());
    round_trip.OnTimeout(30);
  }
  EXPECT_THAT(timeouts, testing::ElementsAre(Ms(2), Ms(4), Ms(8), Ms(16), Ms(32), Ms(64), Ms(128),
                                             Ms(256), Ms(500), Ms(500)));
  round_trip.OnProgress();
  EXPECT_EQ(round_trip.timeout(), Ms(2));
}

TEST(AckSchedule, WaitsForTheDelay) {
  AckSchedule ack;
  EXPECT_FALSE(ack.IsDue(At(1000000)));
  EXPECT_TRUE(ack.deadline().is_never());
  ack.OnFrame(At(10), Us(100), 8);
  EXPECT_FALSE(ack.IsDue(At(109)));
  EXPECT_EQ(ack.deadline(), At(110));
  EXPECT_TRUE(ack.IsDue(At(110)));
}

TEST(AckSchedule, LaterFramesDoNotPutItOff) {
  AckSchedule ack;
  ack.OnFrame(At(10), Us(100), 8);
  ack.OnFrame(At(90), Us(100), 8);
  EXPECT_EQ(ack.deadline(), At(110));
}

TEST(AckSchedule, EveryNthFrameDoesNotWait) {
  AckSchedule ack;
  for (int i = 0; i < 7; ++i) ack.OnFrame(At(10), Us(100), 8);
  EXPECT_FALSE(ack.IsDue(At(10)));
  ack.OnFrame(At(10), Us(100), 8);
  EXPECT_TRUE(ack.IsDue(At(10)));
}

TEST(AckSchedule, AnyFrameSentEndsIt) {
  AckSchedule ack;
  ack.RequestNak();
  EXPECT_TRUE(ack.nak());
  EXPECT_TRUE(ack.IsDue(At(0)));
  ack.OnSent();
  EXPECT_FALSE(ack.nak());
  EXPECT_FALSE(ack.IsDue(At(1000000)));
}

TEST(RestartSuspicion, NeedsSeveralMisfitsOverAWhile) {
  RestartSuspicion suspicion;
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(suspicion.OnMisfit(At(i), 4, Us(100)));
  EXPECT_TRUE(suspicion.OnMisfit(At(100), 4, Us(100)));
  suspicion.Reset();
  EXPECT_FALSE(suspicion.OnMisfit(At(200), 4, Us(100)));
  EXPECT_FALSE(suspicion.OnMisfit(At(400), 4, Us(100)));
  EXPECT_FALSE(suspicion.OnMisfit(At(500), 4, Us(100)));
  EXPECT_TRUE(suspicion.OnMisfit(At(600), 4, Us(100)));
}

TEST(RestartSuspicion, AFrameThatFitsEndsIt) {
  RestartSuspicion suspicion;
  for (int i = 0; i < 3; ++i) suspicion.OnMisfit(At(i * 1000), 4, Us(100));
  suspicion.OnFitting();
  EXPECT_FALSE(suspicion.OnMisfit(At(10000), 4, Us(100)));
}

using Round = LongFrameSuspicion::Round;

// A round of 1 ms, with acknowledgements at these microseconds of it.
Round RoundOf(LongFrameSuspicion& suspicion, std::initializer_list<int64_t> answers) {
  suspicion.BeginRound(At(5000), Us(1000));
  for (const int64_t answer : answers) suspicion.OnAnswer(At(5000 + answer));
  return suspicion.EndRound();
}

TEST(LongFrameSuspicion, ARoundIsPromptIfItIsAnsweredSoonAndThenThereIsQuiet) {
  LongFrameSuspicion suspicion;
  EXPECT_EQ(suspicion.EndRound(), Round::kNone);
  EXPECT_EQ(RoundOf(suspicion, {100}), Round::kPrompt);
  EXPECT_EQ(RoundOf(suspicion, {100, 200, 500}), Round::kPrompt);
  EXPECT_EQ(RoundOf(suspicion, {}), Round::kMissed) << "the way stands still, or the peer";
  EXPECT_EQ(RoundOf(suspicion, {501}), Round::kSlow) << "an answer to something else";
  EXPECT_EQ(RoundOf(suspicion, {100}), Round::kPrompt);
  EXPECT_EQ(RoundOf(suspicion, {100, 900}), Round::kMissed) << "a queue that gets emptied";
}

TEST(LongFrameSuspicion, IsCertainAfterFiveRoundsAndAWhile) {
  LongFrameSuspicion suspicion;
  suspicion.OnProgress(At(0));
  for (int i = 0; i < 4; ++i) RoundOf(suspicion, {1});
  EXPECT_FALSE(suspicion.IsCertain(At(1000000), Us(100)));
  RoundOf(suspicion, {1});
  EXPECT_FALSE(suspicion.IsCertain(At(99), Us(100)));
  EXPECT_TRUE(suspicion.IsCertain(At(100), Us(100)));
  suspicion.OnProgress(At(200));
  EXPECT_FALSE(suspicion.IsCertain(At(1000000), Us(100)));
}

TEST(LongFrameSuspicion, ARoundThatDoesNotCountTakesOneBack) {
  LongFrameSuspicion suspicion;
  suspicion.OnProgress(At(0));
  RoundOf(suspicion, {});
  for (int i = 0; i < 4; ++i) RoundOf(suspicion, {1});
  RoundOf(suspicion, {1, 999});
  RoundOf(suspicion, {1});
  EXPECT_FALSE(suspicion.IsCertain(At(1000), Us(100)));
  RoundOf(suspicion, {1});
  EXPECT_TRUE(suspicion.IsCertain(At(1000), Us(100)));
}

TEST(LongFrameSuspicion, AnswersOutsideOfARoundSayNothing) {
  LongFrameSuspicion suspicion;
  suspicion.OnProgress(At(0));
  for (int i = 0; i < 100; ++i) {
    suspicion.OnAnswer(At(i));
    suspicion.EndRound();
  }
  EXPECT_FALSE(suspicion.IsCertain(At(1000000), Us(100)));
}

TEST(AnswerNumbers, ComeBackInOrderAndKnowTheirBound) {
  AnswerNumbers numbers;
  EXPECT_EQ(numbers.Pop(), std::nullopt);
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(numbers.HasRoom(AnswerNumbers::kCapacity));
    for (uint32_t i = 0; i < AnswerNumbers::kCapacity; ++i) numbers.Push(Number(i));
    EXPECT_FALSE(numbers.HasRoom(1));
    for (uint32_t i = 0; i < AnswerNumbers::kCapacity; ++i) ASSERT_EQ(numbers.Pop(), Number(i));
  }
}

TEST(PeerTraits, SoftwareThatCopiesMemoryToTheWireUsesMemoryOrder) {
  using tilelink::DataOrder;
  EXPECT_EQ(TraitsOf(PeerProfile::kAuto).data_order, DataOrder::kSpec);
  EXPECT_EQ(TraitsOf(PeerProfile::kSpec).data_order, DataOrder::kSpec);
  EXPECT_EQ(TraitsOf(PeerProfile::kOmnixtendC).data_order, DataOrder::kSpec);
  EXPECT_EQ(TraitsOf(PeerProfile::kMemoryNode).data_order, DataOrder::kMemory);
  EXPECT_EQ(TraitsOf(PeerProfile::kOxmemNbd).data_order, DataOrder::kMemory);
  EXPECT_EQ(TraitsOf(PeerProfile::kOxmemFuse).data_order, DataOrder::kMemory);
}

}  // namespace
}  // namespace oxmem::tloe
