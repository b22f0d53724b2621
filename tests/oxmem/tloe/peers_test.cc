// The engine with each of the existing software endpoints, as they behave on the wire.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "oxmem/tloe/engine.h"
#include "tests/oxmem/tilelink/words.h"
#include "tests/oxmem/tloe/peers/memory_node_peer.h"
#include "tests/oxmem/tloe/peers/omnixtend_c_peer.h"
#include "tests/oxmem/tloe/peers/oxmem_client_peers.h"
#include "tests/oxmem/tloe/peers/tiny_node.h"
#include "tests/support/capture.h"

namespace oxmem::tloe {
namespace {

using tilelink::Counting;
using tilelink::MakeA;
using tilelink::MakeD;
using tilelink::OpcodeA;
using tilelink::OpcodeD;

constexpr std::size_t kMemory = 64 * 1024;

std::vector<test::CapturedFrame> Capture(const std::string& name) {
  return test::ReadCapture(std::string(OXMEM_TEST_DATA) + "/omnixtend/" + name);
}

EngineConfig ConfigOf(Role role) {
  EngineConfig config;
  config.role = role;
  return config;
}

// --- MemoryNode -------------------------------------------------------------------------------

// What the script answers to the captured requests is what was captured.
void ReplayAgainstMemoryNode(const std::string& name) {
  const auto frames = Capture(name);
  ASSERT_FALSE(frames.empty());
  const auto client = frames[0].source;
  MemoryNodePeer node(kMemory);
  std::vector<Bytes> captured;
  std::vector<Bytes> scripted;
  for (const auto& frame : frames) {
    if (frame.source != client) {
      captured.push_back(frame.payload);
      continue;
    }
    node.Receive(At(0), frame.payload);
    for (Bytes& answer : node.TakeOutbox()) scripted.push_back(std::move(answer));
  }
  ASSERT_EQ(scripted.size(), captured.size());
  for (std::size_t i = 0; i < captured.size(); ++i) EXPECT_EQ(scripted[i], captured[i]) << i;
}

TEST(MemoryNodeScript, AnswersTheCapturedRawFramesAsTheOriginalDid) {
  ReplayAgainstMemoryNode("raw-memnode.pcap");
}
TEST(MemoryNodeScript, AnswersTheCapturedFilesystemAsTheOriginalDid) {
  ReplayAgainstMemoryNode("dax-memnode.pcap");
}
TEST(MemoryNodeScript, AnswersTheCapturedBlockDeviceAsTheOriginalDid) {
  ReplayAgainstMemoryNode("nbd-memnode.pcap");
}

class WithMemoryNode : public testing::Test {
 protected:
  WithMemoryNode() {
    wire.on_messages = [this] {
      for (Received& message : TakeMessages(engine)) answers.push_back(std::move(message));
    };
  }
  void Connect() {
    engine.Open(wire.now);
    wire.RunFor(Duration::Milliseconds(200));
    ASSERT_EQ(engine.state(), State::kOpen);
  }

  Engine engine{ConfigOf(Role::kInitiator)};
  MemoryNodePeer node{kMemory};
  ScriptedWire wire{engine, node};
  std::vector<Received> answers;
};

TEST_F(WithMemoryNode, IsRecognised) {
  Connect();
  EXPECT_EQ(engine.peer(), PeerProfile::kMemoryNode);
  EXPECT_EQ(engine.data_order(), tilelink::DataOrder::kMemory);
}

TEST_F(WithMemoryNode, ReadsAndWritesMemoryAsItLies) {
  Connect();
  const auto data = Counting(64, 1);
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kPutFullData, 6, 3, 0x100), {data, {}}));
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 6, 4, 0x100), {}));
  wire.RunFor(Duration::Milliseconds(5));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].message, MakeD(OpcodeD::kAccessAck, 6, 3));
  EXPECT_EQ(answers[1].data, data);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), node.memory.begin() + 0x100));
  EXPECT_TRUE(engine.idle());
}

TEST_F(WithMemoryNode, NoEndlessExchangeBegins) {
  Connect();
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 6, 4, 0x100), {}));
  wire.RunFor(Duration::Seconds(2));
  const int before = wire.engine_frames + wire.peer_frames;
  wire.RunFor(Duration::Seconds(60));
  EXPECT_EQ(wire.engine_frames + wire.peer_frames, before);
}

TEST_F(WithMemoryNode, ItsCreditsThatLeakDoNotStarveTheConnection) {
  Connect();
  std::size_t sent = 0;
  const auto data = Counting(1024, 1);
  while (sent < 20000) {
    const bool put = sent % 2 == 0;
    const auto message = put ? MakeA(OpcodeA::kPutFullData, 10, sent % 4096, 0)
                             : MakeA(OpcodeA::kGet, 10, sent % 4096, 0);
    if (engine.Enqueue(message, {put ? data : Bytes(), {}})) {
      ++sent;
      continue;
    }
    wire.RunFor(Duration::Microseconds(100));
    ASSERT_EQ(engine.state(), State::kOpen);
  }
  wire.RunFor(Duration::Seconds(1));
  EXPECT_EQ(answers.size(), sent);
  EXPECT_EQ(node.executed, static_cast<int>(sent)) << "nothing was sent twice";
}

TEST_F(WithMemoryNode, ALostRequestIsSentAgain) {
  Connect();
  int seen = 0;
  wire.drop = [&](bool from_engine, const Bytes&) { return from_engine && seen++ == 0; };
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 6, 1, 0), {}));
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 6, 2, 0), {}));
  wire.RunFor(Duration::Seconds(1));
  // The second is executed over the gap; its answer does not acknowledge the first.
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].message.source, 2u);
  EXPECT_EQ(answers[1].message.source, 1u);
  EXPECT_EQ(engine.stats().resends.value(), 1u);
}

TEST_F(WithMemoryNode, ALostAnswerIsAskedForAgainAndArrivesOnce) {
  Connect();
  int seen = 0;
  wire.drop = [&](bool from_engine, const Bytes&) { return !from_engine && seen++ == 0; };
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 6, 1, 0), {}));
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 6, 2, 0), {}));
  wire.RunFor(Duration::Seconds(1));
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(node.executed, 3);
}

TEST_F(WithMemoryNode, ALostOpeningOrItsAnswerIsTriedAgain) {
  for (const bool lose_request : {true, false}) {
    engine.Reset();
    node.Restart();
    int seen = 0;
    wire.drop = [&](bool from_engine, const Bytes&) {
      return from_engine == lose_request && seen++ == 0;
    };
    engine.Open(wire.now);
    wire.RunFor(Duration::Milliseconds(500));
    EXPECT_EQ(engine.state(), State::kOpen);
    EXPECT_EQ(engine.peer(), PeerProfile::kMemoryNode);
  }
}

TEST_F(WithMemoryNode, AnswersAreRightThroughLossOfEveryTenthFrame) {
  Connect();
  std::mt19937 random(7);
  wire.drop = [&](bool, const Bytes&) { return random() % 10 == 0; };
  std::vector<std::byte> model(64 * 64);
  // One request a block at a time, so that the outcome is certain.
  std::vector<bool> busy(64);
  std::vector<Bytes> written(64);
  int done = 0;
  std::size_t taken = 0;
  for (int step = 0; step < 200000 && done < 2000; ++step) {
    const uint32_t block = random() % 64;
    if (!busy[block]) {
      const bool put = random() % 2 == 0;
      Bytes data;
      if (put)
        for (int i = 0; i < 64; ++i) data.push_back(static_cast<std::byte>(random()));
      const auto message = MakeA(put ? OpcodeA::kPutFullData : OpcodeA::kGet, 6, block, block * 64);
      if (engine.Enqueue(message, {data, {}})) {
        busy[block] = true;
        written[block] = data;
      }
    }
    wire.RunFor(Duration::Microseconds(200));
    ASSERT_EQ(engine.state(), State::kOpen);
    for (; taken < answers.size(); ++taken) {
      const Received& answer = answers[taken];
      const uint32_t source = answer.message.source;
      ASSERT_TRUE(busy[source]) << "an answer came twice";
      busy[source] = false;
      ++done;
      auto* at = model.data() + source * 64;
      if (!written[source].empty()) {
        std::copy(written[source].begin(), written[source].end(), at);
      } else {
        ASSERT_TRUE(std::equal(answer.data.begin(), answer.data.end(), at));
      }
    }
  }
  EXPECT_GE(done, 2000);
}

TEST_F(WithMemoryNode, TheCloseIsAnswered) {
  Connect();
  engine.Close(wire.now);
  EXPECT_EQ(engine.state(), State::kClosing);
  wire.RunFor(Duration::Milliseconds(1));
  EXPECT_EQ(engine.state(), State::kClosed);
}

TEST_F(WithMemoryNode, ARestartedNodeIsGivenUp) {
  Connect();
  node.Restart();
  ASSERT_TRUE(engine.Enqueue(MakeA(OpcodeA::kGet, 6, 1, 0), {}));
  wire.RunFor(Duration::Seconds(10));
  EXPECT_EQ(engine.state(), State::kFailed);
  EXPECT_EQ(engine.failure(), Failure::kNoAnswer);
  engine.Reset();
  Connect();
}

TEST_F(WithMemoryNode, AProbeFindsItAlive) {
  Connect();
  engine.Probe(wire.now);
  wire.RunFor(Duration::Seconds(10));
  EXPECT_EQ(engine.state(), State::kOpen);
  node.Restart();
  engine.Probe(wire.now);
  wire.RunFor(Duration::Seconds(10));
  EXPECT_EQ(engine.state(), State::kFailed);
}

TEST(WithMemoryNodeConfigured, TheFirstAnswerIsEnough) {
  EngineConfig config = ConfigOf(Role::kInitiator);
  config.peer = PeerProfile::kMemoryNode;
  Engine engine(config);
  MemoryNodePeer node(kMemory);
  ScriptedWire wire(engine, node);
  engine.Open(wire.now);
  wire.Exchange();
  EXPECT_EQ(engine.state(), State::kOpen);
  EXPECT_EQ(wire.peer_frames, 1);
}

// --- omnixtend-c ------------------------------------------------------------------------------

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

// --- oxmem-fuse and oxmem-nbd -----------------------------------------------------------------

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
