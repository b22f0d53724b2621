// The engine as the node of oxmem-fuse and oxmem-nbd.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "oxmem/tloe/engine.h"
#include "tests/oxmem/tilelink/words.h"
#include "tests/oxmem/tloe/peers/captures.h"
#include "tests/oxmem/tloe/peers/oxmem_client_peers.h"
#include "tests/oxmem/tloe/peers/tiny_node.h"

namespace oxmem::tloe {
namespace {

using tilelink::Counting;
using tilelink::MakeA;
using tilelink::OpcodeA;

class WithOxmemFuse : public testing::Test {
 protected:
  WithOxmemFuse() {
    wire.on_messages = [this] { node.Serve(); };
    fuse.Start();
    wire.RunFor(Duration::Milliseconds(10));
  }
  Engine engine{ConfigOf(Role::kResponder)};
  OxmemFusePeer fuse;
  ScriptedWire wire{engine, fuse};
  TinyNode node{engine, kMemory};
};

TEST_F(WithOxmemFuse, ItsOpeningIsTheCapturedOneAndIsAnswered) {
  OxmemFusePeer other;
  other.Start();
  const auto frames = Capture("dax-memnode.pcap");
  ASSERT_FALSE(frames.empty());
  EXPECT_EQ(other.TakeOutbox()[0], frames[0].payload);
  EXPECT_TRUE(fuse.mounted);
  EXPECT_EQ(engine.peer(), PeerProfile::kOxmemFuse);
  EXPECT_EQ(engine.data_order(), tilelink::DataOrder::kMemory);
}

TEST_F(WithOxmemFuse, EveryAnswerNamesTheFrameOfItsRequest) {
  const auto data = Counting(1024, 0);
  const uint32_t put = fuse.Request(MakeA(OpcodeA::kPutFullData, 10, 0, 0x400), data);
  wire.RunFor(Duration::Milliseconds(1));
  std::vector<uint32_t> gets;
  for (int i = 0; i < 20; ++i) gets.push_back(fuse.Request(MakeA(OpcodeA::kGet, 10, 0, 0x400)));
  wire.RunFor(Duration::Milliseconds(1));
  EXPECT_EQ(fuse.answers.count(put), 1u);
  for (const uint32_t get : gets) {
    ASSERT_EQ(fuse.answers.count(get), 1u);
    EXPECT_EQ(fuse.answers[get].data, data);
  }
  EXPECT_EQ(fuse.unknown_answers, 0);
}

TEST_F(WithOxmemFuse, IsNotSentWhatItWouldTakeForAnAnswer) {
  fuse.Request(MakeA(OpcodeA::kGet, 10, 0, 0));
  wire.on_messages = [this] { engine.Retain(); };  // a slow node
  wire.RunFor(Duration::Milliseconds(50));
  EXPECT_EQ(fuse.lone_acks, 0);
  EXPECT_EQ(fuse.unknown_answers, 0);
  node.Serve();
  wire.RunFor(Duration::Milliseconds(1));
  EXPECT_EQ(fuse.answers.size(), 1u);
}

TEST_F(WithOxmemFuse, NothingIsSentAgainToAClientThatIsSilentBecauseItIsIdle) {
  fuse.Request(MakeA(OpcodeA::kGet, 10, 0, 0));
  wire.RunFor(Duration::Milliseconds(10));
  const int before = wire.engine_frames;
  wire.RunFor(Duration::Seconds(60));
  EXPECT_EQ(wire.engine_frames, before);
  EXPECT_EQ(engine.state(), State::kOpen);
}

TEST_F(WithOxmemFuse, ALostRequestDoesNotBlockThoseAfterIt) {
  int seen = 0;
  wire.drop = [&](bool from_engine, const Bytes&) { return !from_engine && seen++ == 0; };
  const uint32_t lost = fuse.Request(MakeA(OpcodeA::kGet, 10, 0, 0));
  const uint32_t next = fuse.Request(MakeA(OpcodeA::kGet, 10, 0, 0));
  wire.RunFor(Duration::Seconds(1));
  EXPECT_EQ(fuse.answers.count(lost), 0u);
  EXPECT_EQ(fuse.answers.count(next), 1u);
}

TEST_F(WithOxmemFuse, MayIgnoreItsCredits) {
  // More than the node grants, while the node takes nothing: it is served all the same.
  EngineConfig config = ConfigOf(Role::kResponder);
  config.receive_flits = {64, 64, 64, 2048, 64};
  Engine small(config);
  OxmemFusePeer client;
  ScriptedWire other(small, client);
  TinyNode server(small, kMemory);
  other.on_messages = [&small] { small.Retain(); };
  client.Start();
  other.RunFor(Duration::Milliseconds(1));
  for (int i = 0; i < 10; ++i)
    client.Request(MakeA(OpcodeA::kPutFullData, 10, 0, 0), Counting(1024, i));
  other.RunFor(Duration::Milliseconds(1));
  EXPECT_GT(small.stats().credit_violations.value(), 0u);
  server.Serve();
  other.RunFor(Duration::Milliseconds(1));
  EXPECT_EQ(client.answers.size(), 10u);
}

TEST_F(WithOxmemFuse, ItsCloseIsAnswered) {
  fuse.Close();
  wire.RunFor(Duration::Milliseconds(1));
  EXPECT_TRUE(fuse.closed);
  EXPECT_EQ(engine.state(), State::kFailed);
  EXPECT_EQ(engine.failure(), Failure::kPeerClosed);
}

TEST_F(WithOxmemFuse, OpeningAgainIsSeenAtOnce) {
  fuse.Request(MakeA(OpcodeA::kGet, 10, 0, 0));
  wire.RunFor(Duration::Milliseconds(1));
  OxmemFusePeer restarted;
  restarted.Start();
  const auto open = restarted.TakeOutbox()[0];
  EXPECT_EQ(engine.OnFrame(wire.now, open), FrameVerdict::kNewPeer);
  engine.Reset();
  EXPECT_EQ(engine.OnFrame(wire.now, open), FrameVerdict::kAckOnly);
  EXPECT_EQ(engine.state(), State::kOpen);
}

class WithOxmemNbd : public testing::Test {
 protected:
  WithOxmemNbd() {
    wire.on_messages = [this] { node.Serve(); };
    nbd.Start();
    wire.RunFor(Duration::Milliseconds(10));
  }
  Engine engine{ConfigOf(Role::kResponder)};
  OxmemNbdPeer nbd;
  ScriptedWire wire{engine, nbd};
  TinyNode node{engine, kMemory};
};

TEST_F(WithOxmemNbd, ItsOpeningIsTheCapturedOneAndIsAnswered) {
  OxmemNbdPeer other;
  other.Start();
  const auto frames = Capture("nbd-memnode.pcap");
  ASSERT_GE(frames.size(), 2u);
  const auto opening = other.TakeOutbox();
  EXPECT_EQ(opening[0], frames[0].payload);
  EXPECT_EQ(opening[1], frames[1].payload);
  EXPECT_TRUE(nbd.answered);
  EXPECT_EQ(engine.peer(), PeerProfile::kOxmemNbd);
}

TEST_F(WithOxmemNbd, NoEndlessExchangeBegins) {
  nbd.Gets(wire.now, {MakeA(OpcodeA::kGet, 10, 1, 0)});
  wire.RunFor(Duration::Milliseconds(50));
  const int before = wire.engine_frames + wire.peer_frames;
  wire.RunFor(Duration::Seconds(60));
  EXPECT_EQ(wire.engine_frames + wire.peer_frames, before);
}

TEST_F(WithOxmemNbd, ThirtyTwoGetsInAFrameAreAnsweredEach) {
  for (auto& byte : node.memory) byte = std::byte{0x42};
  std::vector<tilelink::Message> gets;
  for (uint32_t i = 0; i < 32; ++i) gets.push_back(MakeA(OpcodeA::kGet, 10, i, i * 1024));
  nbd.Gets(wire.now, gets);
  wire.RunFor(Duration::Milliseconds(5));
  EXPECT_EQ(nbd.answers.size(), 32u);
  EXPECT_EQ(nbd.answers[31].data, Bytes(1024, std::byte{0x42}));
  EXPECT_EQ(nbd.replays, 0);
}

TEST_F(WithOxmemNbd, RecoversFromLossByItsReplays) {
  std::mt19937 random(11);
  wire.drop = [&](bool, const Bytes&) { return random() % 10 == 0; };
  for (uint32_t i = 0; i < 200; ++i) {
    if (i % 2 == 0) {
      nbd.Gets(wire.now, {MakeA(OpcodeA::kGet, 10, i, 0)});
    } else {
      nbd.Put(wire.now, MakeA(OpcodeA::kPutFullData, 10, i, 0x2000), Counting(1024, 3));
    }
    wire.RunFor(Duration::Milliseconds(1));
  }
  wire.RunFor(Duration::Seconds(5));
  EXPECT_EQ(nbd.answers.size(), 200u);
  EXPECT_EQ(engine.state(), State::kOpen);
}

}  // namespace
}  // namespace oxmem::tloe
