#include "oxmem/tloe/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <memory>

#include "oxmem/tloe/frame.h"
#include "tests/oxmem/tilelink/words.h"
#include "tests/oxmem/tloe/engine_fixture.h"

namespace oxmem::tloe {
namespace {

using tilelink::MakeA;
using tilelink::MakeD;
using tilelink::OpcodeA;
using tilelink::OpcodeD;

class EngineBothProtocols : public testing::TestWithParam<Protocol> {};
INSTANTIATE_TEST_SUITE_P(, EngineBothProtocols, testing::Values(Protocol::k103, Protocol::k11),
                         [](const auto& test) {
                           return test.param == Protocol::k11 ? "v11" : "v103";
                         });

TEST_P(EngineBothProtocols, OpensAndGrantsEveryChannel) {
  EnginePair pair(ConfigOf(GetParam()));
  EXPECT_EQ(pair.initiator.state(), State::kIdle);
  EXPECT_EQ(pair.responder.state(), State::kIdle);
  pair.Connect();
  EXPECT_EQ(pair.initiator.state(), State::kOpen);
  EXPECT_EQ(pair.responder.state(), State::kOpen);
  EXPECT_TRUE(pair.initiator.idle());
  EXPECT_TRUE(pair.responder.idle());
  for (int i = 0; i < tilelink::kChannelCount; ++i) {
    const auto channel = tilelink::ChannelAt(static_cast<std::size_t>(i));
    EXPECT_TRUE(pair.initiator.CanEnqueue(channel, 1)) << tilelink::LetterOf(channel);
    EXPECT_TRUE(pair.responder.CanEnqueue(channel, 1)) << tilelink::LetterOf(channel);
  }
}

TEST_P(EngineBothProtocols, CarriesRequestsAndAnswers) {
  EnginePair pair(ConfigOf(GetParam()));
  pair.Connect();
  Bytes data(1024);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7);
  ASSERT_TRUE(pair.initiator.Enqueue(MakeA(OpcodeA::kPutFullData, 10, 5, 0x4000), {data, {}}));
  ASSERT_TRUE(pair.initiator.Enqueue(MakeA(OpcodeA::kGet, 6, 6, 0x40), {}));
  pair.Exchange();
  ASSERT_EQ(pair.at_responder.size(), 2u);
  EXPECT_EQ(pair.at_responder[0].message, MakeA(OpcodeA::kPutFullData, 10, 5, 0x4000));
  EXPECT_EQ(pair.at_responder[0].data, data);
  EXPECT_EQ(pair.at_responder[1].message, MakeA(OpcodeA::kGet, 6, 6, 0x40));
  ASSERT_TRUE(pair.responder.Enqueue(MakeD(OpcodeD::kAccessAck, 10, 5), {}));
  pair.RunUntil(pair.now + Duration::Seconds(5));
  ASSERT_EQ(pair.at_initiator.size(), 1u);
  EXPECT_EQ(pair.at_initiator[0].message, MakeD(OpcodeD::kAccessAck, 10, 5));
  EXPECT_TRUE(pair.initiator.idle());
  EXPECT_TRUE(pair.responder.idle());
  EXPECT_EQ(pair.initiator.state(), State::kOpen);
  EXPECT_EQ(pair.responder.state(), State::kOpen);
  EXPECT_EQ(pair.initiator.stats().resends.value(), 0u);
  EXPECT_EQ(pair.responder.stats().resends.value(), 0u);
}

TEST_P(EngineBothProtocols, ALostFrameIsSentAgain) {
  EnginePair pair(ConfigOf(GetParam()));
  pair.Connect();
  int seen = 0;
  pair.drop = [&](const Engine& from, const Bytes&) {
    return &from == &pair.initiator && seen++ == 0;
  };
  ASSERT_TRUE(pair.initiator.Enqueue(MakeA(OpcodeA::kGet, 6, 1, 0), {}));
  pair.Exchange();
  EXPECT_TRUE(pair.at_responder.empty());
  pair.RunUntil(pair.now + Duration::Seconds(1));
  ASSERT_EQ(pair.at_responder.size(), 1u);
  // 1.0.3 sends the acknowledgement before it again too, which nobody acknowledged.
  EXPECT_EQ(pair.initiator.stats().resends.value(), GetParam() == Protocol::k11 ? 1u : 2u);
}

TEST_F(EngineTest, SmallMessagesShareAFrame) {
  Connect();
  for (int i = 0; i < 32; ++i) ASSERT_TRUE(Get());
  auto frames = Frames();
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(MessagesIn(frames[0]), 32u);
  for (int i = 0; i < 33; ++i) ASSERT_TRUE(Get());
  frames = Frames();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(MessagesIn(frames[0]), 32u) << "nothing starts beyond flit 63";
  EXPECT_EQ(MessagesIn(frames[1]), 1u);
}

TEST_F(EngineTest, ALargeMessageFollowsSmallOnesIntoTheirFrame) {
  Connect();
  ASSERT_TRUE(Get());
  ASSERT_TRUE(Get());
  ASSERT_TRUE(Put(10));
  ASSERT_TRUE(Get());
  const auto frames = Frames();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(MessagesIn(frames[0]), 3u);
  EXPECT_GT(frames[0].size(), 1024u + 16);
}

TEST_F(EngineTest, AFrameIsClosedWhenItIsAskedFor) {
  Connect();
  ASSERT_TRUE(Get());
  EXPECT_EQ(Frames().size(), 1u);
  ASSERT_TRUE(Get());
  EXPECT_EQ(Frames().size(), 1u);
}

TEST_F(EngineTest, NoFrameIsLongerThanTheConfiguration) {
  EngineConfig config;
  config.max_frame_bytes = 200;
  Connect(config);
  EXPECT_EQ(pair->initiator.max_message_flits(), 23u);
  EXPECT_EQ(Engine::LargestDataSize(200), 7);
  ASSERT_TRUE(Put(7));
  ASSERT_TRUE(Get());
  ASSERT_TRUE(Get());
  ASSERT_TRUE(Get());
  for (const Bytes& frame : Frames()) EXPECT_LE(frame.size(), 200u);
  EXPECT_FALSE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 24));
  EXPECT_FALSE(Put(8)) << "a message that fits no frame";
}

TEST_F(EngineTest, MessagesStartNoLaterThanThePeerLikes) {
  EngineConfig config;
  config.max_start_of_message_flit = 3;
  Connect(config);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Get());
  const auto frames = Frames();
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(ParseFrame(frames[0])->mask, 0b101u);
}

TEST(Engine, LargestDataSizeIsThatOfAPut) {
  EXPECT_EQ(Engine::LargestDataSize(1500), 10);
  EXPECT_EQ(Engine::LargestDataSize(9000), 13);
  EXPECT_EQ(Engine::LargestDataSize(65535), 15);
  EXPECT_EQ(Engine::LargestDataSize(56), 4);
}

TEST_F(EngineTest, FramesStayAsTheyWereUntilTheNextFrameArrives) {
  Connect();
  std::vector<std::span<const std::byte>> spans;
  std::vector<Bytes> copies;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(Put(6));
    const auto frame = pair->initiator.NextFrame(pair->now);
    ASSERT_FALSE(frame.empty());
    spans.push_back(frame);
    copies.emplace_back(frame.begin(), frame.end());
  }
  for (std::size_t i = 0; i < spans.size(); ++i)
    EXPECT_TRUE(std::equal(spans[i].begin(), spans[i].end(), copies[i].begin()));
}

TEST_F(EngineTest, AnAcknowledgementRidesOnAnAnswer) {
  Connect();
  ASSERT_TRUE(Get());
  const Bytes request = Frames()[0];
  Deliver(request);
  TakeMessages(pair->responder);
  EXPECT_TRUE(Answers().empty()) << "it waits for something to ride on";
  pair->responder.Enqueue(MakeD(OpcodeD::kAccessAck, 6, 0), {});
  const auto answers = Answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(HeaderOf(answers[0]).acknowledged, HeaderOf(request).sequence);
  const uint64_t lone = pair->responder.stats().acks_sent.value();
  Wait(Duration::Milliseconds(1));
  EXPECT_TRUE(Answers().empty());
  EXPECT_EQ(pair->responder.stats().acks_sent.value(), lone);
}

TEST_F(EngineTest, ALoneAcknowledgementGoesAfterTheDelayAndTakesNoNumber) {
  Connect();
  ASSERT_TRUE(Get());
  Deliver(Frames()[0]);
  TakeMessages(pair->responder);
  EXPECT_TRUE(Answers().empty());
  EXPECT_LE(pair->responder.next_deadline() - pair->now, pair->responder.config().max_ack_delay);
  Wait(pair->responder.config().max_ack_delay);
  const auto first = Answers();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(HeaderOf(first[0]).type, FrameType::kAckOnly);
  EXPECT_TRUE(HeaderOf(first[0]).ack);
  pair->responder.Enqueue(MakeD(OpcodeD::kAccessAck, 6, 0), {});
  EXPECT_EQ(HeaderOf(Answers()[0]).sequence, HeaderOf(first[0]).sequence);
  Return(first[0]);
  EXPECT_TRUE(pair->initiator.idle());
}

TEST_F(EngineTest, ManyFramesAreAcknowledgedBeforeTheDelay) {
  Connect();
  for (int i = 0; i < 16; ++i) {
    ASSERT_TRUE(Get());
    Deliver(Frames()[0]);
    TakeMessages(pair->responder);
    EXPECT_EQ(Answers().size(), i == 15 ? 1u : 0u) << i;
  }
}

TEST_F(EngineTest, ALoneAcknowledgementIsNeverAnswered) {
  for (const Protocol protocol : {Protocol::k103, Protocol::k11}) {
    Connect(ConfigOf(protocol));
    ASSERT_TRUE(Get());
    pair->RunUntil(pair->now + Duration::Seconds(1));
    const uint64_t frames =
        pair->initiator.stats().frames_sent.value() + pair->responder.stats().frames_sent.value();
    pair->RunUntil(pair->now + Duration::Seconds(60));
    EXPECT_EQ(
        pair->initiator.stats().frames_sent.value() + pair->responder.stats().frames_sent.value(),
        frames);
  }
}

TEST_F(EngineTest, AGapIsAnsweredWithOneNakAndTheResendStartsAfterTheLastGoodFrame) {
  Connect();
  std::vector<Bytes> frames;
  for (uint32_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(Get(i));
    frames.push_back(Frames()[0]);
  }
  EXPECT_EQ(Deliver(frames[0]), FrameVerdict::kAccepted);
  TakeMessages(pair->responder);
  EXPECT_EQ(Deliver(frames[2]), FrameVerdict::kGap);
  EXPECT_EQ(Deliver(frames[3]), FrameVerdict::kGap);
  const auto answers = Answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(HeaderOf(answers[0]).ack);
  EXPECT_EQ(HeaderOf(answers[0]).acknowledged, HeaderOf(frames[0]).sequence);
  Return(answers[0]);
  const auto again = Frames();
  ASSERT_EQ(again.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(HeaderOf(again[i]).sequence, HeaderOf(frames[i + 1]).sequence);
    EXPECT_EQ(Deliver(again[i]), FrameVerdict::kAccepted);
    EXPECT_EQ(TakeMessages(pair->responder).size(), 1u);
  }
}

TEST_F(EngineTest, SeveralNaksOfOneGapAskForOneRound) {
  Connect();
  std::vector<Bytes> frames;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(Get());
    frames.push_back(Frames()[0]);
  }
  FrameHeader nak;
  nak.type = FrameType::kAckOnly;
  nak.ack = false;
  nak.acknowledged = HeaderOf(frames[0]).sequence.Previous();
  Bytes bytes(kMinFrameBytes);
  WriteEmptyFrame(nak, bytes);
  // A round trip is known from the opening.
  ASSERT_GE(pair->initiator.round_trip(), Duration::Nanoseconds(1));
  Wait(Duration::Milliseconds(1));
  Return(bytes);
  EXPECT_EQ(Frames().size(), 3u);
  Return(bytes);
  Return(bytes);
  EXPECT_TRUE(Frames().empty());
}

TEST_F(EngineTest, AFrameLostAgainInTheResendIsAskedForAgain) {
  Connect();
  std::vector<Bytes> frames;
  for (uint32_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(Get(i));
    frames.push_back(Frames()[0]);
  }
  Deliver(frames[1]);
  Deliver(frames[2]);
  EXPECT_FALSE(HeaderOf(Answers()[0]).ack);
  // The resend begins at 0, which is lost once more; 1 comes again, before 2 in number.
  Deliver(frames[1]);
  const auto answers = Answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(HeaderOf(answers[0]).ack);
}

TEST_F(EngineTest, ADuplicateIsAcknowledgedAndNotDeliveredAgain) {
  Connect();
  ASSERT_TRUE(Get());
  const auto frame = Frames()[0];
  EXPECT_EQ(Deliver(frame), FrameVerdict::kAccepted);
  TakeMessages(pair->responder);
  Wait(Duration::Milliseconds(1));
  EXPECT_EQ(Answers().size(), 1u);
  EXPECT_EQ(Deliver(frame), FrameVerdict::kDuplicate);
  EXPECT_EQ(pair->responder.NextMessage(), nullptr);
  Wait(Duration::Milliseconds(1));
  const auto answers = Answers();
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_TRUE(HeaderOf(answers[0]).ack);
  EXPECT_EQ(HeaderOf(answers[0]).acknowledged, HeaderOf(frame).sequence);
}

TEST_F(EngineTest, AResendSaysWhatIsAcknowledgedNowAndGrantsWhatItGrantedThen) {
  Connect();
  // Something for the initiator to grant: an answer it has taken.
  pair->responder.Enqueue(MakeD(OpcodeD::kAccessAckData, 10, 0), {Bytes(1024), {}});
  for (const Bytes& frame : Answers()) Return(frame);
  TakeMessages(pair->initiator);
  ASSERT_TRUE(Get());
  const auto first = HeaderOf(Frames()[0]);
  EXPECT_EQ(first.credit_channel, 4);
  pair->responder.Enqueue(MakeD(OpcodeD::kAccessAck, 6, 0), {});
  for (const Bytes& frame : Answers()) Return(frame);
  TakeMessages(pair->initiator);
  Wait(Duration::Milliseconds(100));
  pair->initiator.OnDeadline(pair->now);
  const auto again = Frames();
  ASSERT_FALSE(again.empty());
  EXPECT_EQ(HeaderOf(again[0]).sequence, first.sequence);
  EXPECT_EQ(HeaderOf(again[0]).acknowledged, first.acknowledged.Next());
  EXPECT_EQ(HeaderOf(again[0]).credit_channel, first.credit_channel);
  EXPECT_EQ(HeaderOf(again[0]).credit_exponent, first.credit_exponent);
}

TEST_F(EngineTest, CreditsOfADuplicateAreNotCountedTwice) {
  EngineConfig config;
  config.receive_flits = {64, 64, 64, 64, 64};
  Connect(config);
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(Put(5));
  std::vector<Bytes> returned;
  pair->drop = [&](const Engine& from, const Bytes& frame) {
    if (&from == &pair->responder) returned.push_back(frame);
    return false;
  };
  pair->RunUntil(pair->now + Duration::Milliseconds(10));
  ASSERT_FALSE(returned.empty());
  for (int copies = 0; copies < 10; ++copies)
    for (const Bytes& frame : returned) EXPECT_NE(Return(frame), FrameVerdict::kAccepted);
  EXPECT_TRUE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 64));
  EXPECT_FALSE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 65));
}

TEST_F(EngineTest, TheTimeoutAdaptsAndBacksOff) {
  Connect();
  ASSERT_TRUE(Get());
  std::vector<Instant> sent;
  pair->drop = [&](const Engine& from, const Bytes& frame) {
    if (&from == &pair->initiator && HeaderOf(frame).type == FrameType::kNormal)
      sent.push_back(pair->now);
    return true;
  };
  pair->RunUntil(pair->now + Duration::Seconds(20));
  ASSERT_EQ(sent.size(), 1u + static_cast<std::size_t>(EngineConfig().max_resends));
  EXPECT_EQ(sent[1] - sent[0], EngineConfig().min_resend_timeout);
  for (std::size_t i = 2; i < sent.size(); ++i)
    EXPECT_EQ(sent[i] - sent[i - 1],
              std::min((sent[i - 1] - sent[i - 2]) * 2, EngineConfig().max_resend_timeout));
  EXPECT_EQ(pair->initiator.state(), State::kFailed);
  EXPECT_EQ(pair->initiator.failure(), Failure::kNoAnswer);
}

// Lone acknowledgements of 1.0.3 are acknowledged whenever the peer has something to say.
TEST_F(EngineTest, WhatIsNotAwaitedSaysNothingAboutTheRoundTrip) {
  Connect(ConfigOf(Protocol::k103));
  ASSERT_TRUE(Get());
  pair->RunUntil(pair->now + Duration::Seconds(5));
  ASSERT_TRUE(Get());
  pair->RunUntil(pair->now + Duration::Seconds(5));
  EXPECT_LT(pair->initiator.round_trip(), Duration::Milliseconds(1));
  EXPECT_LT(pair->responder.round_trip(), Duration::Milliseconds(1));
}

TEST_F(EngineTest, TheWindowBoundsFramesInFlight) {
  EngineConfig config;
  config.window_frames = 8;
  Connect(config);
  int sent = 0;
  for (; sent < 100 && Get(); ++sent) Frames();
  EXPECT_EQ(sent, 8);
  EXPECT_GT(pair->initiator.stats().window_stalls.value(), 0u);
  EXPECT_FALSE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 2));
}

TEST_F(EngineTest, NumbersGoAroundManyTimesTheWindow) {
  // Every number there is, once around, with the smallest frames.
  EngineConfig config;
  config.peer = PeerProfile::kSpec;
  Connect(config);
  for (uint32_t i = 0; i < SequenceNumber::kModulus + 1000; ++i) {
    ASSERT_TRUE(Get(i & tilelink::kMaxSource)) << i;
    const auto frame = pair->initiator.NextFrame(pair->now);
    ASSERT_EQ(pair->responder.OnFrame(pair->now, frame), FrameVerdict::kAccepted) << i;
    const tilelink::DecodedMessage* message = pair->responder.NextMessage();
    ASSERT_EQ(message->message.source, i);
    pair->responder.NextMessage();
    for (auto ack = pair->responder.NextFrame(pair->now); !ack.empty();
         ack = pair->responder.NextFrame(pair->now))
      pair->initiator.OnFrame(pair->now, ack);
  }
}

TEST_F(EngineTest, AMessageWaitsForCredits) {
  EngineConfig config;
  config.receive_flits = {8, 8, 8, 8, 8};
  Connect(config);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Get());
  EXPECT_FALSE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 2));
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(Get());
  EXPECT_EQ(pair->initiator.stats().credit_stalls.value(), 1u) << "one wait, however often tried";
  pair->RunUntil(pair->now + Duration::Milliseconds(1));
  EXPECT_TRUE(Get()) << "the node took the four and gave their credits back";
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Get());
  EXPECT_FALSE(Get());
  EXPECT_EQ(pair->initiator.stats().credit_stalls.value(), 2u);
}

TEST_F(EngineTest, AWaitForTheWindowIsCountedOnce) {
  EngineConfig config;
  config.window_frames = 8;
  Connect(config);
  int sent = 0;
  while (Put(10)) {
    Frames();
    ASSERT_LT(++sent, 100);
  }
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(Put(10));
  EXPECT_FALSE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 130));
  EXPECT_EQ(pair->initiator.stats().window_stalls.value(), 1u);
  EXPECT_EQ(pair->initiator.stats().credit_stalls.value(), 0u);
}

TEST_F(EngineTest, CreditsComeBackOnlyWhenAMessageIsGivenBack) {
  EngineConfig config;
  config.receive_flits = {8, 8, 8, 8, 8};
  Connect(config);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Get());
  for (const Bytes& frame : Frames()) Deliver(frame);
  for (int i = 0; i < 4; ++i) ASSERT_NE(pair->responder.NextMessage(), nullptr);
  // Three are given back, the fourth is in use.
  for (const Bytes& frame : Answers()) Return(frame);
  EXPECT_TRUE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 6));
  EXPECT_FALSE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 7));
  EXPECT_EQ(pair->responder.NextMessage(), nullptr);
  Wait(Duration::Milliseconds(1));
  for (const Bytes& frame : Answers()) Return(frame);
  EXPECT_TRUE(pair->initiator.CanEnqueue(tilelink::Channel::kA, 8));
}

TEST_F(EngineTest, RetainedMessagesOutliveTheirFrameAndComeFirst) {
  Connect();
  Bytes data(64);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  for (uint32_t i = 0; i < 3; ++i)
    ASSERT_TRUE(pair->initiator.Enqueue(MakeA(OpcodeA::kPutFullData, 6, i, 0), {data, {}}));
  auto frames = Frames();
  ASSERT_EQ(frames.size(), 1u);
  Deliver(frames[0]);
  ASSERT_EQ(pair->responder.NextMessage()->message.source, 0u);
  pair->responder.Retain();
  std::fill(frames[0].begin(), frames[0].end(), std::byte{0xdd});
  ASSERT_TRUE(Get(3));
  Deliver(Frames()[0]);
  const auto rest = TakeMessages(pair->responder);
  ASSERT_EQ(rest.size(), 3u);
  EXPECT_EQ(rest[0].message.source, 1u);
  EXPECT_EQ(rest[0].data, data);
  EXPECT_EQ(rest[1].message.source, 2u);
  EXPECT_EQ(rest[1].data, data);
  EXPECT_EQ(rest[2].message.source, 3u);
}

TEST_F(EngineTest, PeekShowsTheNextMessageWithoutTakingIt) {
  Connect();
  ASSERT_TRUE(Get(1));
  ASSERT_TRUE(Get(2));
  const auto frames = Frames();
  Deliver(frames[0]);
  EXPECT_EQ(pair->responder.PeekMessage()->message.source, 1u);
  EXPECT_EQ(pair->responder.PeekMessage()->message.source, 1u);
  EXPECT_EQ(pair->responder.NextMessage()->message.source, 1u);
  EXPECT_EQ(pair->responder.PeekMessage()->message.source, 2u);
  pair->responder.Retain();
  EXPECT_EQ(pair->responder.PeekMessage()->message.source, 2u);
  EXPECT_EQ(pair->responder.NextMessage()->message.source, 2u);
  EXPECT_EQ(pair->responder.PeekMessage(), nullptr);
  EXPECT_EQ(pair->responder.NextMessage(), nullptr);
}

TEST_F(EngineTest, AFrameBeyondTheBufferIsDroppedAsIfLostAndTakenLater) {
  EngineConfig config;
  config.max_frame_bytes = 200;
  config.receive_flits = {16, 0, 0, 16, 0};
  Connect(config);
  // A sender that ignores credits: the frames of another connection with the same numbers.
  EngineConfig generous = config;
  generous.receive_flits = {4096, 0, 0, 4096, 0};
  EnginePair other(generous);
  other.Connect();
  other.RunUntil(other.now + Duration::Milliseconds(50));
  std::vector<Bytes> frames;
  for (uint32_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(other.initiator.Enqueue(MakeA(OpcodeA::kGet, 3, i, 0), {}));
    for (Bytes& frame : TakeFrames(other.initiator, other.now)) frames.push_back(std::move(frame));
  }
  Engine& node = pair->responder;
  // Both openings sent two frames.
  std::size_t accepted = 0;
  while (accepted < frames.size() && Deliver(frames[accepted]) == FrameVerdict::kAccepted) {
    node.Retain();
    ++accepted;
  }
  EXPECT_EQ(accepted, 16u) << "32 flits in all";
  EXPECT_EQ(node.stats().credit_violations.value(), 16u - 8 + 1);
  EXPECT_EQ(TakeMessages(node).size(), 16u);
  EXPECT_EQ(Deliver(frames[accepted]), FrameVerdict::kAccepted);
}

}  // namespace
}  // namespace oxmem::tloe
