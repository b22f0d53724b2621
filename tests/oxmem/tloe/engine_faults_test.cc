// What peers and networks get wrong: frames too long for the way, messages that cannot be decoded,
// the other protocol.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oxmem/tloe/engine.h"
#include "oxmem/tloe/frame.h"
#include "oxmem/tloe/long_frames.h"
#include "tests/oxmem/tilelink/words.h"
#include "tests/oxmem/tloe/engine_fixture.h"

namespace oxmem::tloe {
namespace {

using tilelink::BytesOf;
using tilelink::MakeA;
using tilelink::OpcodeA;

class EngineFaults : public EngineTest, public testing::WithParamInterface<Protocol> {
 protected:
  void ConnectWith(std::size_t max_frame_bytes) {
    EngineConfig config = ConfigOf(GetParam());
    config.max_frame_bytes = max_frame_bytes;
    Connect(config);
  }
  // What stood still on the way goes on, and the connection with it.
  void ArriveAfterAll(const std::vector<Bytes>& waiting) {
    pair->drop = nullptr;
    for (const Bytes& frame : waiting) {
      Deliver(frame);
      TakeMessages(pair->responder);
    }
    pair->RunUntil(pair->now + Duration::Seconds(2));
    EXPECT_EQ(pair->initiator.state(), State::kOpen);
    EXPECT_TRUE(pair->initiator.idle());
  }
  // Frames of the initiator that are longer do not arrive.
  void Narrow(std::size_t bytes) {
    pair->drop = [this, bytes](const Engine& from, const Bytes& frame) {
      return &from == &pair->initiator && frame.size() > bytes;
    };
  }
};
INSTANTIATE_TEST_SUITE_P(, EngineFaults, testing::Values(Protocol::k103, Protocol::k11),
                         [](const auto& test) {
                           return test.param == Protocol::k11 ? "v11" : "v103";
                         });

TEST_P(EngineFaults, FramesTooLongForTheWayFailTheConnectionSoonAndAreNamed) {
  ConnectWith(1500);
  Narrow(600);
  ASSERT_TRUE(Get(1));
  pair->Exchange();
  ASSERT_TRUE(Put(10));
  const Instant start = pair->now;
  pair->RunUntil(start + Duration::Milliseconds(600));
  ASSERT_EQ(pair->initiator.state(), State::kFailed);
  EXPECT_EQ(pair->initiator.failure(), Failure::kLongFramesLost);
  EXPECT_EQ(pair->initiator.lost_frame_bytes(), 1056u);
  EXPECT_EQ(pair->at_responder.size(), 1u);
}

TEST_P(EngineFaults, ShortFramesBehindALongOneDoNotKeepTheConnectionBusyForEver) {
  // Each shows the gap again, and would have everything sent again at once.
  ConnectWith(1500);
  Narrow(600);
  ASSERT_TRUE(Put(10));
  pair->Exchange();
  const uint64_t before = pair->initiator.stats().frames_sent.value();
  for (uint32_t i = 0; i < 20; ++i) {
    ASSERT_TRUE(Get(i));
    pair->Exchange();
    pair->RunUntil(pair->now + Duration::Milliseconds(1));
  }
  EXPECT_LT(pair->initiator.stats().frames_sent.value() - before, 20u * 20u);
  pair->RunUntil(pair->now + Duration::Milliseconds(600));
  EXPECT_EQ(pair->initiator.failure(), Failure::kLongFramesLost);
}

TEST_P(EngineFaults, ASilentPeerIsNoMatterOfLength) {
  ConnectWith(1500);
  pair->drop = [](const Engine&, const Bytes&) { return true; };
  ASSERT_TRUE(Put(10));
  pair->RunUntil(pair->now + Duration::Seconds(10));
  EXPECT_EQ(pair->initiator.failure(), Failure::kNoAnswer);
}

TEST_P(EngineFaults, FramesThatGetLostForAWhileAreNoMatterOfLength) {
  ConnectWith(1500);
  // The peer stands still: what it is sent meanwhile waits in front of it, in order.
  std::vector<Bytes> waiting;
  pair->drop = [&](const Engine& from, const Bytes& frame) {
    if (&from == &pair->initiator) waiting.push_back(frame);
    return true;
  };
  ASSERT_TRUE(Put(10));
  pair->RunUntil(pair->now + Duration::Milliseconds(400));
  ArriveAfterAll(waiting);
}

TEST_P(EngineFaults, SignsOfLifeThatWereUnderWayLongBeforeProveNothing) {
  // The way to the peer stands still, that from the peer brings what it said of earlier frames.
  ConnectWith(1500);
  std::vector<Bytes> waiting;
  Bytes old;
  pair->drop = [&](const Engine& from, const Bytes& frame) {
    if (&from != &pair->initiator) return false;
    waiting.push_back(frame);
    return true;
  };
  ASSERT_TRUE(Put(10));
  pair->Exchange();
  // An acknowledgement of what came before, and a NAK.
  ASSERT_TRUE(pair->responder.Enqueue(tilelink::MakeD(tilelink::OpcodeD::kAccessAck, 0, 1), {}));
  old = Answers().at(0);
  for (int i = 0; i < 400; ++i) {
    pair->RunUntil(pair->now + Duration::Milliseconds(1));
    Return(old);
    TakeMessages(pair->initiator);
  }
  ASSERT_EQ(pair->initiator.state(), State::kOpen);
  ArriveAfterAll(waiting);
}

TEST_P(EngineFaults, FramesAsLongAsOnesThatHaveArrivedAreNotTooLong) {
  // The way may have changed; the next connection finds out.
  ConnectWith(1500);
  ASSERT_TRUE(Put(10));
  pair->RunUntil(pair->now + Duration::Milliseconds(100));
  Narrow(600);
  ASSERT_TRUE(Put(10));
  pair->RunUntil(pair->now + Duration::Milliseconds(600));
  ASSERT_EQ(pair->initiator.state(), State::kFailed);
  EXPECT_EQ(pair->initiator.failure(), Failure::kNoAnswer);
  EXPECT_EQ(pair->initiator.lost_frame_bytes(), 0u);
}

TEST_P(EngineFaults, AfterASecondTimeoutOnlyTheOldestFrameIsSentAgain) {
  ConnectWith(1500);
  pair->drop = [](const Engine&, const Bytes&) { return true; };
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(Put(10));
  pair->Exchange();
  const uint64_t before = pair->initiator.stats().resends.value();
  pair->RunUntil(pair->now + Duration::Seconds(1));
  EXPECT_LT(pair->initiator.stats().resends.value() - before, 40u);
  ASSERT_TRUE(Put(5));
  const uint64_t frames = pair->initiator.stats().frames_sent.value();
  pair->Exchange();
  EXPECT_EQ(pair->initiator.stats().frames_sent.value(), frames) << "nothing new meanwhile";
  pair->drop = nullptr;
  pair->RunUntil(pair->now + Duration::Seconds(2));
  EXPECT_EQ(pair->at_responder.size(), 21u);
  EXPECT_TRUE(pair->initiator.idle());
}

TEST_P(EngineFaults, ShorterFramesFromThenOn) {
  ConnectWith(1500);
  Narrow(600);
  ASSERT_TRUE(Put(10));
  pair->RunUntil(pair->now + Duration::Milliseconds(600));
  ASSERT_EQ(pair->initiator.failure(), Failure::kLongFramesLost);
  const std::size_t limit = FrameBytesBelow(pair->initiator.lost_frame_bytes());
  EXPECT_EQ(limit, 576u);
  pair->initiator.LimitFrames(limit);
  pair->initiator.Reset();
  pair->responder.Reset();
  pair->Connect();
  ASSERT_EQ(pair->initiator.state(), State::kOpen);
  EXPECT_LE(pair->initiator.max_message_flits(), 70u);
  EXPECT_FALSE(Put(10));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(Put(8));
  pair->RunUntil(pair->now + Duration::Milliseconds(100));
  EXPECT_EQ(pair->at_responder.size(), 10u);
}

TEST(FrameBytesBelow, NamesWhatNetworksTakeAndGetsSmaller) {
  EXPECT_EQ(FrameBytesBelow(65535), 9000u);
  EXPECT_EQ(FrameBytesBelow(8224), 1500u);
  EXPECT_EQ(FrameBytesBelow(1500), 1400u);
  EXPECT_EQ(FrameBytesBelow(1056), 576u);
  for (std::size_t bytes = 65535; bytes > kLongFrameBytes;) {
    const std::size_t next = FrameBytesBelow(bytes);
    ASSERT_LT(next, bytes);
    bytes = next;
  }
}

// A frame of the initiator that is next in order, with these words between header and mask.
class EngineMalformed : public EngineFaults {
 protected:
  Bytes Frame(std::vector<uint64_t> words, uint64_t mask) {
    ConnectWith(1500);
    EXPECT_TRUE(Get());
    FrameHeader header = HeaderOf(Frames()[0]);
    words.insert(words.begin(), EncodeFrameHeader(header));
    words.push_back(mask);
    return BytesOf(words);
  }
  // Asked for again the first time, as it may have been damaged on its way.
  void ExpectTakenTheSecondTime(const Bytes& frame) {
    EXPECT_EQ(Deliver(frame), FrameVerdict::kMalformed);
    const auto answers = Answers();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_FALSE(HeaderOf(answers[0]).ack) << "NAK";
    EXPECT_EQ(HeaderOf(answers[0]).acknowledged, HeaderOf(frame).sequence.Previous());
    EXPECT_NE(Deliver(frame), FrameVerdict::kMalformed);
  }
};
INSTANTIATE_TEST_SUITE_P(, EngineMalformed, testing::Values(Protocol::k103, Protocol::k11),
                         [](const auto& test) {
                           return test.param == Protocol::k11 ? "v11" : "v103";
                         });

constexpr uint64_t kGet = 0x1803000000000001;
constexpr uint64_t kPutOf512 = 0x1009000000000002;
constexpr uint64_t kReserved = 0x6003000000000003;

TEST_P(EngineMalformed, AMessageThatIsNotAllThereIsHandedOutWithItsHeaderAlone) {
  const Bytes frame = Frame({kGet, 0x40, kPutOf512, 0x200, 1}, 0b101);
  ExpectTakenTheSecondTime(frame);
  const auto* message = pair->responder.NextMessage();
  ASSERT_NE(message, nullptr);
  EXPECT_FALSE(message->malformed);
  EXPECT_EQ(message->message, MakeA(OpcodeA::kGet, 3, 1, 0x40));
  message = pair->responder.NextMessage();
  ASSERT_NE(message, nullptr);
  EXPECT_TRUE(message->malformed);
  EXPECT_EQ(message->message, MakeA(OpcodeA::kPutFullData, 9, 2, 0));
  EXPECT_EQ(pair->responder.NextMessage(), nullptr);
}

TEST_P(EngineMalformed, SuchAMessageCanBeKeptLikeAnyOther) {
  const Bytes frame = Frame({kPutOf512, 0x200, kGet | uint64_t{1} << 63, 0x40, 0}, 0b101);
  ExpectTakenTheSecondTime(frame);
  pair->responder.Retain();
  const auto* message = pair->responder.NextMessage();
  ASSERT_NE(message, nullptr);
  EXPECT_TRUE(message->malformed);
  EXPECT_EQ(message->message, MakeA(OpcodeA::kPutFullData, 9, 2, 0));
  message = pair->responder.NextMessage();
  ASSERT_NE(message, nullptr);
  EXPECT_FALSE(message->malformed) << "a reserved bit means nothing";
  EXPECT_EQ(message->message, MakeA(OpcodeA::kGet, 3, 1, 0x40));
}

TEST_P(EngineMalformed, WhereThereIsNotEvenAHeaderTheOthersAreHandedOut) {
  const Bytes frame = Frame({kReserved, 0, 0, kGet, 0x40}, 0b1001);
  ExpectTakenTheSecondTime(frame);
  const auto messages = TakeMessages(pair->responder);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].message, MakeA(OpcodeA::kGet, 3, 1, 0x40));
}

TEST_P(EngineMalformed, TheConnectionGoesOnAfterwards) {
  const Bytes frame = Frame({kReserved, 0, 0, 0, 0}, 0b1);
  ExpectTakenTheSecondTime(frame);
  EXPECT_TRUE(TakeMessages(pair->responder).empty());
  ASSERT_TRUE(Get(9));
  for (const Bytes& next : Frames()) {
    EXPECT_EQ(Deliver(next), FrameVerdict::kAccepted);
    EXPECT_EQ(TakeMessages(pair->responder)[0].message.source, 9u);
  }
}

TEST_P(EngineMalformed, AFrameThatIsDamagedDifferentlyEachTimeIsNeverTaken) {
  ConnectWith(1500);
  ASSERT_TRUE(Get(9));
  const Bytes good = Frames()[0];
  for (int i = 0; i < 20; ++i) {
    Bytes bad = good;
    bad[8] = std::byte{0x70};  // a reserved channel
    bad[20] = static_cast<std::byte>(i);
    EXPECT_EQ(Deliver(bad), FrameVerdict::kMalformed);
  }
  EXPECT_EQ(Deliver(good), FrameVerdict::kAccepted);
  EXPECT_EQ(TakeMessages(pair->responder)[0].message.source, 9u);
}

TEST_F(EngineTest, AnAnswerWhoseDataWentAwayIsDeniedAfterAll) {
  Connect();
  const Bytes data(64);
  ASSERT_TRUE(pair->responder.Enqueue(tilelink::MakeD(tilelink::OpcodeD::kAccessAckData, 6, 1),
                                      {data, {}}));
  ASSERT_TRUE(pair->responder.Enqueue(tilelink::MakeD(tilelink::OpcodeD::kAccessAckData, 6, 2),
                                      {data, {}}));
  pair->responder.SpoilLast();
  ASSERT_TRUE(pair->responder.Enqueue(tilelink::MakeD(tilelink::OpcodeD::kAccessAckData, 6, 3),
                                      {data, {}}));
  pair->Exchange();
  ASSERT_EQ(pair->at_initiator.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(pair->at_initiator[i].message.source, i + 1);
    EXPECT_EQ(pair->at_initiator[i].message.denied, i == 1);
    EXPECT_EQ(pair->at_initiator[i].message.corrupt, i == 1);
  }
}

// What a responder that has one protocol only sends to an opening in the other.
Failure FailureOfOpening(Protocol mine, Protocol theirs) {
  Engine initiator{ConfigOf(mine)};
  EngineConfig responder = ConfigOf(theirs);
  responder.role = Role::kResponder;
  initiator.Open(At(0));
  for (const Bytes& frame : TakeFrames(initiator, At(0))) {
    std::array<std::byte, Engine::kRefusalBytes> to;
    const auto refusal = Engine::RefusalFor(responder, frame, to);
    if (!refusal.empty()) initiator.OnFrame(At(1), refusal);
  }
  EXPECT_TRUE(TakeFrames(initiator, At(1)).empty()) << "nothing more to say to it";
  return initiator.failure();
}

TEST(EngineProtocol, APeerThatSpeaksTheOtherOneOnlyIsRecognised) {
  EXPECT_EQ(FailureOfOpening(Protocol::k103, Protocol::k11), Failure::kOtherProtocol);
  EXPECT_EQ(FailureOfOpening(Protocol::k11, Protocol::k103), Failure::kOtherProtocol);
}

TEST(EngineProtocol, ARefusalOfAnotherVirtualChannelSaysNothing) {
  EngineConfig config = ConfigOf(Protocol::k103);
  Engine initiator(config);
  initiator.Open(At(0));
  const Bytes opening = TakeFrames(initiator, At(0))[0];
  std::array<std::byte, Engine::kRefusalBytes> to;
  const auto refusal = Engine::RefusalFor(ConfigOf(Protocol::k11), opening, to);
  ASSERT_FALSE(refusal.empty());
  to[0] |= std::byte{0x20};
  EXPECT_EQ(initiator.OnFrame(At(1), to), FrameVerdict::kIgnored);
  EXPECT_EQ(initiator.state(), State::kOpening);
}

}  // namespace
}  // namespace oxmem::tloe
