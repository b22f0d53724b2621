// The engine with omnixtend-c, as its master and as its slave.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "oxmem/tloe/engine.h"
#include "tests/oxmem/tilelink/words.h"
#include "tests/oxmem/tloe/peers/captures.h"
#include "tests/oxmem/tloe/peers/omnixtend_c_peer.h"
#include "tests/oxmem/tloe/peers/tiny_node.h"

namespace oxmem::tloe {
namespace {

using tilelink::Counting;
using tilelink::MakeA;
using tilelink::MakeD;
using tilelink::OpcodeA;
using tilelink::OpcodeD;

TEST(OmnixtendCScript, MasterAndSlaveOpenAsCaptured) {
  OmnixtendCPeer master(OmnixtendCPeer::Side::kMaster, kMemory);
  OmnixtendCPeer slave(OmnixtendCPeer::Side::kSlave, kMemory);
  master.Start(At(0));
  std::vector<uint64_t> headers;
  const auto carry = [&headers](OmnixtendCPeer& from, OmnixtendCPeer& to) {
    const auto frames = from.TakeOutbox();
    for (const Bytes& frame : frames) headers.push_back(LoadBigEndian<uint64_t>(frame.data()));
    for (const Bytes& frame : frames) to.Receive(At(0), frame);
    return !frames.empty();
  };
  while (carry(master, slave) || carry(slave, master)) {
  }
  EXPECT_TRUE(master.connected);
  EXPECT_TRUE(slave.connected);
  std::vector<uint64_t> captured;
  for (const auto& frame : Capture("omx-ms.pcap"))
    captured.push_back(LoadBigEndian<uint64_t>(frame.payload.data()));
  // Every frame of the captured opening is among what the scripts say; they acknowledge more often.
  for (std::size_t i = 0; i < 12; ++i) EXPECT_THAT(headers, testing::Contains(captured[i])) << i;
}

class WithOmnixtendCSlave : public testing::Test {
 protected:
  WithOmnixtendCSlave() {
    wire.on_messages = [this] {
      for (Received& message : TakeMessages(engine)) answers.push_back(std::move(message));
    };
  }
  void Connect() {
    engine.Open(wire.now);
    wire.RunFor(Duration::Milliseconds(500));
    ASSERT_EQ(engine.state(), State::kOpen);
    ASSERT_TRUE(slave.connected);
  }

  Engine engine{ConfigOf(Role::kInitiator)};
  OmnixtendCPeer slave{OmnixtendCPeer::Side::kSlave, kMemory};
  ScriptedWire wire{engine, slave};
  std::vector<Received> answers;
};

TEST_F(WithOmnixtendCSlave, IsRecognisedAndOpensWhenAllCreditsAreThere) {
  Connect();
  EXPECT_EQ(engine.peer(), PeerProfile::kOmnixtendC);
  EXPECT_EQ(engine.data_order(), tilelink::DataOrder::kSpec);
  for (const uint64_t credits : slave.credits) EXPECT_GT(credits, 128u);
  EXPECT_EQ(engine.max_message_flits(), 65u);
}

TEST_F(WithOmnixtendCSlave, KeepsToItsWindowAndItsFrames) {
  Connect();
  std::size_t most = 0;
  std::size_t sent = 0;
  const auto data = Counting(256, 1);
  for (int round = 0; round < 300; ++round) {
    std::size_t in_flight = 0;
    while (engine.Enqueue(
        round % 2 == 0 ? MakeA(OpcodeA::kPutFullData, 8, 1, 0) : MakeA(OpcodeA::kGet, 5, 1, 0),
        {round % 2 == 0 ? data : Bytes(), {}}))
      ++in_flight;
    sent += in_flight;
    most = std::max(most, in_flight);
    wire.RunFor(Duration::Milliseconds(1));
  }
  wire.RunFor(Duration::Seconds(1));
  EXPECT_EQ(most, 4u);
  EXPECT_EQ(answers.size(), sent);
  EXPECT_FALSE(slave.malformed);
  EXPECT_EQ(engine.stats().resends.value(), 0u);
}

TEST_F(WithOmnixtendCSlave, AnswersOfSizeZeroAreDelivered) {
  Connect();
  const auto data = Counting(32, 1);
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kPutFullData, 5, 7, 0x40), {data, {}}));
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 5, 8, 0x40), {}));
  wire.RunFor(Duration::Milliseconds(5));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].message, MakeD(OpcodeD::kAccessAck, 0, 7));
  EXPECT_EQ(answers[1].data, data);
}

TEST_F(WithOmnixtendCSlave, AGapItAnswersWithAckIsRepairedByTheTimeout) {
  Connect();
  int seen = 0;
  wire.drop = [&](bool from_engine, const Bytes&) { return from_engine && seen++ == 0; };
  for (uint32_t i = 0; i < 4; ++i) ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 3, i, 0), {}));
  wire.RunFor(Duration::Seconds(1));
  ASSERT_EQ(answers.size(), 4u);
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(answers[i].message.source, i);
  EXPECT_EQ(slave.executed, 4);
}

TEST_F(WithOmnixtendCSlave, EveryRequestIsAnsweredOnceThroughLossOfEveryTenthFrame) {
  Connect();
  std::mt19937 random(3);
  wire.drop = [&](bool, const Bytes&) { return random() % 10 == 0; };
  uint32_t sent = 0;
  for (int step = 0; step < 100000 && sent < 500; ++step) {
    if (engine.Enqueue(MakeA(OpcodeA::kGet, 3, sent, 0), {})) {
      ++sent;
    } else {
      wire.RunFor(Duration::Milliseconds(1));
    }
    ASSERT_EQ(engine.state(), State::kOpen);
  }
  wire.RunFor(Duration::Seconds(10));
  ASSERT_EQ(answers.size(), 500u);
  for (uint32_t i = 0; i < 500; ++i) EXPECT_EQ(answers[i].message.source, i);
}

TEST_F(WithOmnixtendCSlave, OpensThroughLossOfAnyOneFrame) {
  for (int lost = 0; lost < 16; ++lost) {
    Engine initiator(ConfigOf(Role::kInitiator));
    OmnixtendCPeer peer(OmnixtendCPeer::Side::kSlave, kMemory);
    ScriptedWire lossy(initiator, peer);
    int seen = 0;
    lossy.drop = [&](bool, const Bytes&) { return seen++ == lost; };
    initiator.Open(lossy.now);
    lossy.RunFor(Duration::Seconds(1));
    EXPECT_EQ(initiator.state(), State::kOpen) << lost;
    EXPECT_TRUE(peer.connected) << lost;
  }
}

class WithOmnixtendCMaster : public testing::Test {
 protected:
  WithOmnixtendCMaster() {
    wire.on_messages = [this] { node.Serve(); };
  }
  Engine engine{ConfigOf(Role::kResponder)};
  OmnixtendCPeer master{OmnixtendCPeer::Side::kMaster, kMemory};
  ScriptedWire wire{engine, master};
  TinyNode node{engine, kMemory};
};

TEST_F(WithOmnixtendCMaster, IsServed) {
  master.Start(wire.now);
  wire.RunFor(Duration::Milliseconds(10));
  ASSERT_TRUE(master.connected);
  EXPECT_EQ(engine.peer(), PeerProfile::kOmnixtendC);
  const auto data = Counting(8, 0x11);
  ASSERT_TRUE(master.Request(wire.now, MakeA(OpcodeA::kPutFullData, 3, 0, 0x1000), data));
  ASSERT_TRUE(master.Request(wire.now, MakeA(OpcodeA::kGet, 3, 0, 0x1000)));
  wire.RunFor(Duration::Milliseconds(10));
  ASSERT_EQ(master.answers.size(), 2u);
  EXPECT_EQ(master.answers[1].data, data);
  EXPECT_FALSE(master.malformed);
}

TEST_F(WithOmnixtendCMaster, IsServedThroughLossOfEveryTenthFrame) {
  std::mt19937 random(5);
  wire.drop = [&](bool, const Bytes&) { return random() % 10 == 0; };
  master.Start(wire.now);
  std::size_t sent = 0;
  for (int step = 0; step < 100000 && sent < 300; ++step) {
    if (master.Request(wire.now, MakeA(OpcodeA::kGet, 3, static_cast<uint32_t>(sent), 0))) {
      ++sent;
    } else {
      wire.RunFor(Duration::Milliseconds(10));
    }
    ASSERT_NE(engine.state(), State::kFailed);
  }
  wire.RunFor(Duration::Seconds(30));
  ASSERT_EQ(master.answers.size(), 300u);
  for (uint32_t i = 0; i < 300; ++i) EXPECT_EQ(master.answers[i].message.source, i);
}

}  // namespace
}  // namespace oxmem::tloe
