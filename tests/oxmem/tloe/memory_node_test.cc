// The engine as the client of MemoryNode.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "oxmem/tloe/engine.h"
#include "tests/oxmem/tilelink/words.h"
#include "tests/oxmem/tloe/peers/captures.h"
#include "tests/oxmem/tloe/peers/memory_node_peer.h"

namespace oxmem::tloe {
namespace {

using tilelink::Counting;
using tilelink::MakeA;
using tilelink::MakeD;
using tilelink::OpcodeA;
using tilelink::OpcodeD;

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

// While it is not known who answers, frames with credits are planned that it then takes none of.
TEST(MemoryNode, CreditsThatAreNotSentWakeNobody) {
  EngineConfig config = ConfigOf(Role::kInitiator);
  config.receive_flits.fill(17);  // a rest is left when a power of two was granted
  Engine engine(config);
  MemoryNodePeer node(kMemory);
  Instant now = At(0);
  engine.Open(now);
  for (int round = 0; round < 10; ++round) {
    for (const Bytes& frame : TakeFrames(engine, now)) node.Receive(now, frame);
    for (const Bytes& answer : node.TakeOutbox()) engine.OnFrame(now, answer);
  }
  ASSERT_EQ(engine.state(), State::kOpen);
  ASSERT_EQ(engine.peer(), PeerProfile::kMemoryNode);
  now = now + config.max_ack_delay;
  engine.OnDeadline(now);
  TakeFrames(engine, now);
  EXPECT_GT(engine.next_deadline(), now);
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

}  // namespace
}  // namespace oxmem::tloe
