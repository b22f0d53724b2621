// How connections begin, end and begin again.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "oxmem/tloe/engine.h"
#include "oxmem/tloe/frame.h"
#include "tests/oxmem/tilelink/words.h"
#include "tests/oxmem/tloe/engine_fixture.h"

namespace oxmem::tloe {
namespace {

using tilelink::MakeA;
using tilelink::OpcodeA;

TEST(EngineOpening, TheFramesAreThoseOfTheKnownEndpoints) {
  EngineConfig config;
  config.receive_flits = {1024, 1024, 1024, 1024, 1024};
  config.peer = PeerProfile::kSpec;
  Engine initiator(config);
  config.role = Role::kResponder;
  Engine responder(config);
  initiator.Open(At(0));
  auto frames = TakeFrames(initiator, At(0));
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(tilelink::WordsOf(frames[0])[0], 0x04000000fffffe2au);
  EXPECT_EQ(responder.OnFrame(At(0), frames[0]), FrameVerdict::kAckOnly);
  frames = TakeFrames(responder, At(0));
  std::vector<uint64_t> headers;
  for (const Bytes& frame : frames) headers.push_back(tilelink::WordsOf(frame)[0]);
  EXPECT_THAT(headers,
              testing::ElementsAre(0x000000000000022au, 0x000000010000024au, 0x000000020000026au,
                                   0x000000030000028au, 0x00000004000002aau));
}

TEST(EngineOpening, IsTriedAgainUntilItsTimeIsOver) {
  EngineConfig config;
  Engine engine(config);
  engine.Open(At(0));
  int sent = 0;
  Instant now = At(0);
  while (engine.state() == State::kOpening) {
    sent += static_cast<int>(TakeFrames(engine, now).size());
    now = engine.next_deadline();
    engine.OnDeadline(now);
  }
  EXPECT_EQ(sent,
            static_cast<int>(config.open_timeout.nanoseconds() / config.open_retry.nanoseconds()));
  EXPECT_EQ(engine.failure(), Failure::kNoAnswer);
  EXPECT_EQ(now - At(0), config.open_timeout);
}

TEST(EngineOpening, NothingCanBeEnqueuedBefore) {
  Engine engine{EngineConfig()};
  EXPECT_FALSE(engine.CanEnqueue(tilelink::Channel::kA, 2));
  EXPECT_FALSE(engine.Enqueue(MakeA(OpcodeA::kGet, 3, 0, 0), {}));
  engine.Open(At(0));
  EXPECT_FALSE(engine.Enqueue(MakeA(OpcodeA::kGet, 3, 0, 0), {}));
}

TEST(EngineOpening, AResponderIgnoresWhatBeginsNoConnection) {
  EngineConfig config;
  config.role = Role::kResponder;
  Engine engine(config);
  Bytes frame(kMinFrameBytes);
  for (const FrameType type : {FrameType::kNormal, FrameType::kAckOnly, FrameType::kClose}) {
    FrameHeader header;
    header.type = type;
    WriteEmptyFrame(header, frame);
    EXPECT_EQ(engine.OnFrame(At(0), frame), FrameVerdict::kIgnored);
  }
  EXPECT_EQ(engine.state(), State::kIdle);
  EXPECT_TRUE(engine.NextFrame(At(0)).empty());
  EXPECT_TRUE(engine.next_deadline().is_never());
}

TEST_F(EngineTest, AnotherVirtualChannelIsIgnored) {
  Connect();
  ASSERT_TRUE(Get());
  Bytes frame = Frames()[0];
  frame[0] |= std::byte{0x20};
  EXPECT_EQ(Deliver(frame), FrameVerdict::kIgnored);
}

TEST_F(EngineTest, ACopyOfTheOpeningDoesNotEndTheConnection) {
  EngineConfig config;
  Engine initiator(config);
  config.role = Role::kResponder;
  Engine responder(config);
  initiator.Open(At(0));
  const Bytes open = TakeFrames(initiator, At(0))[0];
  responder.OnFrame(At(0), open);
  const auto answers = TakeFrames(responder, At(0));
  // Before anything else was exchanged the answer is repeated.
  EXPECT_EQ(responder.OnFrame(At(10), open), FrameVerdict::kDuplicate);
  EXPECT_EQ(TakeFrames(responder, At(10)).size(), answers.size());
  for (const Bytes& frame : answers) initiator.OnFrame(At(20), frame);
  for (const Bytes& frame : TakeFrames(initiator, At(20))) responder.OnFrame(At(20), frame);
  EXPECT_EQ(responder.OnFrame(At(30), open), FrameVerdict::kDuplicate);
  EXPECT_EQ(responder.OnFrame(At(31), open), FrameVerdict::kDuplicate);
  EXPECT_EQ(responder.state(), State::kOpen);
}

TEST_F(EngineTest, AnOpeningThatIsRepeatedIsANewPeer) {
  Connect();
  ASSERT_TRUE(Get());
  pair->Exchange();
  Engine restarted{EngineConfig()};
  restarted.Open(pair->now);
  FrameVerdict verdict = FrameVerdict::kIgnored;
  const Instant start = pair->now;
  while (verdict != FrameVerdict::kNewPeer && pair->now - start < Duration::Seconds(1)) {
    for (const Bytes& frame : TakeFrames(restarted, pair->now)) verdict = Deliver(frame);
    if (verdict == FrameVerdict::kNewPeer) break;
    for (const Bytes& frame : Answers()) restarted.OnFrame(pair->now, frame);
    pair->now = restarted.next_deadline();
    restarted.OnDeadline(pair->now);
  }
  ASSERT_EQ(verdict, FrameVerdict::kNewPeer);
  EXPECT_LE(pair->now - start, EngineConfig().open_retry);
  EXPECT_EQ(pair->responder.failure(), Failure::kPeerRestarted);
  EXPECT_EQ(restarted.state(), State::kOpening) << "the old connection is no answer";
}

TEST_F(EngineTest, LongAfterTheBeginningOneOpeningIsEnough) {
  Connect();
  Wait(Duration::Seconds(10));
  Engine restarted{EngineConfig()};
  restarted.Open(pair->now);
  const Bytes open = TakeFrames(restarted, pair->now)[0];
  EXPECT_EQ(Deliver(open), FrameVerdict::kNewPeer);
  pair->responder.Reset();
  EXPECT_EQ(Deliver(open), FrameVerdict::kAckOnly);
  for (const Bytes& frame : Answers()) restarted.OnFrame(pair->now, frame);
  EXPECT_EQ(restarted.state(), State::kOpen);
}

TEST_F(EngineTest, ACloseIsAnsweredAndEndsBothSides) {
  Connect();
  pair->initiator.Close(pair->now);
  EXPECT_EQ(pair->initiator.state(), State::kClosing);
  pair->Exchange();
  EXPECT_EQ(pair->initiator.state(), State::kClosed);
  EXPECT_EQ(pair->responder.state(), State::kFailed);
  EXPECT_EQ(pair->responder.failure(), Failure::kPeerClosed);
  EXPECT_TRUE(pair->initiator.next_deadline().is_never());
  EXPECT_TRUE(pair->responder.next_deadline().is_never());
}

TEST_F(EngineTest, WhatWasEnqueuedGoesOutBeforeTheClose) {
  Connect();
  ASSERT_TRUE(Get(7));
  pair->initiator.Close(pair->now);
  EXPECT_FALSE(Get(8));
  pair->Exchange();
  ASSERT_EQ(pair->at_responder.size(), 1u);
  EXPECT_EQ(pair->at_responder[0].message.source, 7u);
}

TEST_F(EngineTest, ACloseThatIsNotAnsweredEndsAllTheSame) {
  Connect();
  int closes = 0;
  pair->drop = [&](const Engine&, const Bytes& frame) {
    closes += HeaderOf(frame).type == FrameType::kClose ? 1 : 0;
    return true;
  };
  pair->initiator.Close(pair->now);
  pair->RunUntil(pair->now + Duration::Seconds(1));
  EXPECT_EQ(pair->initiator.state(), State::kClosed);
  EXPECT_EQ(closes, 3);
}

TEST_F(EngineTest, ACloseOfAnEarlierConnectionIsIgnored) {
  Connect();
  FrameHeader header;
  header.type = FrameType::kClose;
  header.sequence = SequenceNumber::FromWire(1);
  Bytes frame(kMinFrameBytes);
  WriteEmptyFrame(header, frame);
  EXPECT_EQ(Return(frame), FrameVerdict::kDuplicate);
  EXPECT_EQ(pair->initiator.state(), State::kOpen);
}

TEST_F(EngineTest, ARefusalEndsAConnectionTheResponderDoesNotKnow) {
  Connect();
  ASSERT_TRUE(Get());
  std::array<std::byte, Engine::kRefusalBytes> to;
  const auto refusal = Engine::RefusalFor(pair->responder.config(), Frames()[0], to);
  ASSERT_FALSE(refusal.empty());
  Return(Bytes(refusal.begin(), refusal.end()));
  EXPECT_EQ(pair->initiator.state(), State::kFailed);
  EXPECT_EQ(pair->initiator.failure(), Failure::kPeerClosed);
  // The answer to it is refused no more.
  for (const Bytes& frame : Frames()) {
    std::array<std::byte, Engine::kRefusalBytes> again;
    EXPECT_TRUE(Engine::RefusalFor(pair->responder.config(), frame, again).empty());
  }
}

TEST_F(EngineTest, RefusalsDoNotEndAnOpening) {
  EngineConfig config;
  Engine initiator(config);
  initiator.Open(At(0));
  TakeFrames(initiator, At(0));
  FrameHeader header;
  header.type = FrameType::kClose;
  Bytes frame(kMinFrameBytes);
  WriteEmptyFrame(header, frame);
  EXPECT_EQ(initiator.OnFrame(At(1), frame), FrameVerdict::kIgnored);
  EXPECT_EQ(initiator.state(), State::kOpening);
}

TEST_F(EngineTest, AProbeNoticesARestartedResponder) {
  for (const Protocol protocol : {Protocol::k103, Protocol::k11}) {
    Connect(ConfigOf(protocol));
    ASSERT_TRUE(Get());
    pair->RunUntil(pair->now + Duration::Seconds(1));
    pair->initiator.Probe(pair->now);
    pair->RunUntil(pair->now + Duration::Seconds(10));
    ASSERT_EQ(pair->initiator.state(), State::kOpen) << "the peer is there";
    pair->initiator.Probe(pair->now);
    const Instant start = pair->now;
    while (pair->initiator.state() == State::kOpen && pair->now - start < Duration::Seconds(10)) {
      for (const Bytes& frame : Frames()) {
        std::array<std::byte, Engine::kRefusalBytes> to;
        const auto refusal = Engine::RefusalFor(pair->responder.config(), frame, to);
        if (!refusal.empty()) Return(Bytes(refusal.begin(), refusal.end()));
      }
      if (pair->initiator.next_deadline().is_never()) break;
      pair->now = std::max(pair->now, pair->initiator.next_deadline());
      pair->initiator.OnDeadline(pair->now);
    }
    EXPECT_EQ(pair->initiator.state(), State::kFailed);
    EXPECT_LE((pair->now - start).seconds(), 0.5);
  }
}

TEST_F(EngineTest, ResetLeavesNothingButTheStatistics) {
  Connect();
  ASSERT_TRUE(Get());
  pair->Exchange();
  ASSERT_TRUE(Get());
  const uint64_t frames = pair->initiator.stats().frames_sent.value();
  pair->initiator.Reset();
  EXPECT_EQ(pair->initiator.state(), State::kIdle);
  EXPECT_TRUE(pair->initiator.idle());
  EXPECT_TRUE(Frames().empty());
  EXPECT_TRUE(pair->initiator.next_deadline().is_never());
  EXPECT_EQ(pair->initiator.stats().frames_sent.value(), frames);
  pair->responder.Reset();
  pair->Connect();
  EXPECT_EQ(pair->initiator.state(), State::kOpen);
}

TEST_F(EngineTest, MalformedFramesChangeNothing) {
  Connect();
  ASSERT_TRUE(Get(9));
  const Bytes good = Frames()[0];
  Bytes bad = good;
  bad[8] = std::byte{0x70};  // a reserved channel
  EXPECT_EQ(Deliver(bad), FrameVerdict::kMalformed);
  EXPECT_EQ(Deliver(Bytes(good.begin(), good.end() - 1)), FrameVerdict::kMalformed);
  EXPECT_EQ(Deliver({}), FrameVerdict::kMalformed);
  EXPECT_EQ(pair->responder.stats().malformed.value(), 3u);
  EXPECT_EQ(Deliver(good), FrameVerdict::kAccepted);
  EXPECT_EQ(TakeMessages(pair->responder)[0].message.source, 9u);
}

}  // namespace
}  // namespace oxmem::tloe
