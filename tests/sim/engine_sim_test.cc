// Two engines over a simulated network, thousands of runs. Every run has a phase of faults, in
// which what arrives must be right, and a phase without, in which everything must arrive.

#include <gtest/gtest.h>

#include <algorithm>

#include "oxmem/tloe/sequence_number.h"
#include "tests/sim/engine_peer.h"
#include "tests/sim/seeds.h"

namespace oxmem::sim {
namespace {

using tloe::EngineConfig;
using tloe::Protocol;
using tloe::Role;
using tloe::State;

constexpr Duration kFaultyPhase = Duration::Milliseconds(400);
constexpr Duration kHealingPhase = Duration::Seconds(20);

template <typename T>
T Pick(Random& random, std::initializer_list<T> values) {
  return values.begin()[random.Below(values.size())];
}

EngineConfig RandomConfig(Random& random, Protocol protocol) {
  EngineConfig config;
  config.protocol = protocol;
  config.peer = tloe::PeerProfile::kSpec;
  config.virtual_channel = static_cast<uint8_t>(random.Below(8));
  config.max_frame_bytes =
      Pick<std::size_t>(random, {56, 64, 200, 576, 1500, 1500, 9000, 9000, 65535 / 8 * 8});
  config.max_start_of_message_flit = Pick(random, {1, 5, 64, 64, 64});
  config.window_frames = Pick<std::size_t>(random, {1, 2, 7, 64, 512});
  config.resend_buffer_bytes =
      config.max_frame_bytes * Pick<std::size_t>(random, {1, 2, 3, 16}) + random.Below(100);
  const auto longest = static_cast<uint32_t>(config.max_frame_bytes / 8);
  for (uint32_t& flits : config.receive_flits)
    flits =
        random.Chance(0.5) ? longest + static_cast<uint32_t>(random.Below(longest * 3)) : 1 << 16;
  // Near the wrap, so that most runs cross it.
  config.initial_sequence =
      random.Chance(0.5) ? tloe::SequenceNumber::kModulus - static_cast<uint32_t>(random.Below(300))
                         : static_cast<uint32_t>(random.Below(2)) << 21;
  if (random.Chance(0.5)) config.initial_sequence = 0;
  return config;
}

Faults RandomFaults(Random& random) {
  Faults faults;
  const auto upto = [&random](double most) {
    return random.Chance(0.3) ? 0.0 : most * static_cast<double>(random.Below(1000)) / 1000;
  };
  faults.loss = upto(0.1);
  faults.duplication = upto(0.1);
  faults.reorder = upto(0.1);
  faults.corruption = upto(0.1);
  faults.stall = upto(0.005);
  faults.delay = Duration::Microseconds(static_cast<int64_t>(1 + random.Below(500)));
  faults.reorder_delay = Duration::Microseconds(static_cast<int64_t>(1 + random.Below(3000)));
  faults.bytes_per_second = Pick<uint64_t>(random, {0, 125000000, 1250000000});
  return faults;
}

struct Pair {
  Pair(Random& random, const EngineConfig& config, uint64_t seed)
      : network(seed),
        initiator(RoleOf(config, Role::kInitiator), network.Attach(config.max_frame_bytes),
                  random.Next()),
        responder(RoleOf(config, Role::kResponder), network.Attach(config.max_frame_bytes),
                  random.Next()) {
    initiator.SetPeer(responder.address());
    responder.SetPeer(initiator.address());
  }

  static EngineConfig RoleOf(EngineConfig config, Role role) {
    config.role = role;
    return config;
  }

  bool Complete() {
    return initiator.unsent() == 0 && responder.unsent() == 0 &&
           initiator.received() == responder.sent() && responder.received() == initiator.sent();
  }
  // All is sent and acknowledged.
  bool AtRest() {
    return initiator.unsent() == 0 && responder.unsent() == 0 && initiator.engine().idle() &&
           responder.engine().idle() && initiator.engine().state() == State::kOpen &&
           responder.engine().state() == State::kOpen;
  }
  void ExpectRight() {
    EXPECT_EQ(initiator.error(), "");
    EXPECT_EQ(responder.error(), "");
  }

  template <typename Done>
  void RunFor(Duration time, Done done) {
    ASSERT_TRUE(sim::Run(network, initiator, responder, network.now() + time, done))
        << "acts without end at one moment";
  }
  void RunFor(Duration time) {
    RunFor(time, [] { return false; });
  }

  // Nothing is said any more once everything is said.
  void ExpectQuiet() {
    RunFor(Duration::Seconds(3));
    EXPECT_TRUE(initiator.engine().idle());
    EXPECT_TRUE(responder.engine().idle());
    const uint64_t before = initiator.engine().stats().frames_sent.value() +
                            responder.engine().stats().frames_sent.value();
    RunFor(Duration::Seconds(10));
    EXPECT_EQ(initiator.engine().stats().frames_sent.value() +
                  responder.engine().stats().frames_sent.value(),
              before)
        << "an endless exchange";
  }

  Network network;
  EnginePeer initiator;
  EnginePeer responder;
};

class EngineSim : public testing::TestWithParam<Protocol> {};
INSTANTIATE_TEST_SUITE_P(, EngineSim, testing::Values(Protocol::k103, Protocol::k11),
                         [](const auto& test) {
                           return test.param == Protocol::k11 ? "v11" : "v103";
                         });

TEST_P(EngineSim, EverythingArrivesOnceInOrderThroughLossDuplicationReorderingAndStalls) {
  ForEachSeed(1000, [](uint64_t seed) {
    Random random(seed);
    Pair pair(random, RandomConfig(random, GetParam()), seed);
    pair.network.SetFaults(RandomFaults(random));
    pair.initiator.Send(50 + random.Below(400));
    pair.responder.Send(50 + random.Below(400));
    pair.initiator.Open(pair.network.now());
    pair.RunFor(kFaultyPhase, [&] { return pair.Complete(); });
    pair.ExpectRight();
    pair.network.SetFaults({});
    pair.RunFor(kHealingPhase, [&] { return pair.Complete(); });
    pair.ExpectRight();
    EXPECT_TRUE(pair.Complete()) << pair.initiator.received() << "/" << pair.responder.sent() << " "
                                 << pair.responder.received() << "/" << pair.initiator.sent();
    EXPECT_EQ(pair.initiator.connections(), 1);
    EXPECT_EQ(pair.responder.connections(), 1);
    pair.ExpectQuiet();
    pair.ExpectRight();
  });
}

// Without a frame check sequence any byte may change and look right. Then contents cannot be
// vouched for, but nothing crashes or hangs, and after the changes stop a connection either works
// or has failed and the next one works.
TEST_P(EngineSim, ChangedBytesNeitherCrashNorHang) {
  ForEachSeed(1000, [](uint64_t seed) {
    Random random(seed);
    Pair pair(random, RandomConfig(random, GetParam()), seed);
    Faults faults = RandomFaults(random);
    faults.corruption = 0.001 + static_cast<double>(random.Below(100)) / 1000;
    faults.frame_check = false;
    pair.network.SetFaults(faults);
    pair.initiator.DoNotCheck();
    pair.responder.DoNotCheck();
    pair.initiator.Send(50 + random.Below(400));
    pair.responder.Send(50 + random.Below(400));
    pair.initiator.Open(pair.network.now());
    pair.RunFor(kFaultyPhase);
    pair.network.SetFaults({});
    // Either it recovers, or a side notices and begins anew, or whoever waits for an answer gives
    // up, as a requester does at its deadline.
    pair.initiator.Send(20);
    pair.responder.Send(20);
    for (int i = 0; i < 5 && !pair.AtRest(); ++i) {
      if (i > 0) pair.initiator.GiveUp(pair.network.now());
      pair.RunFor(Duration::Seconds(3), [&] { return pair.AtRest(); });
    }
    EXPECT_EQ(pair.initiator.unsent(), 0u);
    EXPECT_EQ(pair.responder.unsent(), 0u);
    EXPECT_EQ(pair.initiator.engine().state(), State::kOpen);
    EXPECT_EQ(pair.responder.engine().state(), State::kOpen);
  });
}

TEST_P(EngineSim, ARestartedPeerIsNoticedAndTheNextConnectionWorks) {
  ForEachSeed(250, [](uint64_t seed) {
    Random random(seed);
    EngineConfig config = RandomConfig(random, GetParam());
    Pair pair(random, config, seed);
    pair.network.SetFaults(RandomFaults(random));
    pair.initiator.Send(5000);
    pair.responder.Send(5000);
    pair.initiator.Open(pair.network.now());
    pair.RunFor(Duration::Milliseconds(static_cast<int64_t>(random.Below(20))));
    const bool initiator = random.Chance(0.5);
    (initiator ? pair.initiator : pair.responder).Restart();
    if (initiator) {
      // A host is away for longer than its frames stay under way.
      pair.RunFor(Duration::Milliseconds(30));
      pair.initiator.Open(pair.network.now());
    }
    pair.RunFor(Duration::Milliseconds(100));
    pair.ExpectRight();
    pair.network.SetFaults({});
    // What was enqueued into a connection that is gone is gone; what comes now must not be.
    // A side that has nothing to send asks whether the other is there.
    pair.initiator.engine().Probe(pair.network.now());
    pair.responder.engine().Probe(pair.network.now());
    pair.RunFor(Duration::Seconds(5));
    pair.initiator.Send(30);
    pair.responder.Send(30);
    const uint64_t at_initiator = pair.initiator.received();
    const uint64_t at_responder = pair.responder.received();
    pair.RunFor(kHealingPhase, [&] {
      return pair.initiator.received() > at_initiator + 20 &&
             pair.responder.received() > at_responder + 20;
    });
    pair.ExpectRight();
    EXPECT_GT(pair.initiator.received(), at_initiator + 20);
    EXPECT_GT(pair.responder.received(), at_responder + 20);
  });
}

TEST_P(EngineSim, AChannelWithoutCreditsDoesNotHoldUpTheOthers) {
  ForEachSeed(50, [](uint64_t seed) {
    Random random(seed);
    EngineConfig config = RandomConfig(random, GetParam());
    config.receive_flits[random.Below(tilelink::kChannelCount)] = 0;
    Pair pair(random, config, seed);
    pair.initiator.Send(200);
    pair.responder.Send(200);
    pair.initiator.Open(pair.network.now());
    pair.RunFor(kHealingPhase, [&] { return pair.Complete(); });
    pair.ExpectRight();
    EXPECT_TRUE(pair.Complete());
    pair.ExpectQuiet();
    for (std::size_t i = 0; i < config.receive_flits.size(); ++i)
      EXPECT_EQ(pair.initiator.engine().CanEnqueue(tilelink::ChannelAt(i), 1),
                config.receive_flits[i] != 0);
  });
}

TEST_P(EngineSim, ASilentPeerEndsTheOpening) {
  ForEachSeed(20, [](uint64_t seed) {
    Random random(seed);
    const EngineConfig config = RandomConfig(random, GetParam());
    Network network(seed);
    const auto silent = network.Attach(config.max_frame_bytes);
    EnginePeer initiator(config, network.Attach(config.max_frame_bytes), seed);
    EnginePeer bystander(Pair::RoleOf(config, Role::kResponder),
                         network.Attach(config.max_frame_bytes), seed);
    initiator.SetPeer(silent->local_address());
    const Instant start = network.now();
    initiator.Open(start);
    ASSERT_TRUE(sim::Run(network, initiator, bystander, start + config.open_timeout * 2,
                    [&] { return initiator.failures() == 1; }));
    EXPECT_EQ(initiator.last_failure(), tloe::Failure::kNoAnswer);
    EXPECT_EQ(network.now() - start, config.open_timeout);
    // The engine has been reset, its statistics stay.
    EXPECT_GT(initiator.engine().stats().frames_sent.value(), 1u) << "it is tried more than once";
  });
}

// The time until a peer that has gone silent is given up is bounded by the configuration.
TEST_P(EngineSim, APeerThatFallsSilentEndsTheConnection) {
  ForEachSeed(50, [](uint64_t seed) {
    Random random(seed);
    EngineConfig config = RandomConfig(random, GetParam());
    config.max_resends = 5;
    config.max_resend_timeout = Duration::Milliseconds(100);
    Pair pair(random, config, seed);
    pair.initiator.Send(1000000);
    pair.responder.Send(1000000);
    pair.initiator.Open(pair.network.now());
    pair.RunFor(Duration::Milliseconds(5));
    ASSERT_EQ(pair.initiator.engine().state(), State::kOpen);
    Faults nothing;
    nothing.loss = 1;
    pair.network.SetFaults(nothing);
    const Instant start = pair.network.now();
    pair.RunFor(Duration::Seconds(2),
                [&] { return pair.initiator.failures() > 0 && pair.responder.failures() > 0; });
    EXPECT_EQ(pair.initiator.last_failure(), tloe::Failure::kNoAnswer);
    EXPECT_EQ(pair.responder.last_failure(), tloe::Failure::kNoAnswer);
    EXPECT_LE(pair.network.now() - start, config.max_resend_timeout * (config.max_resends + 1));
  });
}

// A way with deep queues that loses frames by chance, and hosts that do not get to act for a while.
Faults DeepQueues(Random& random) {
  Faults faults;
  faults.loss = 0.01 * static_cast<double>(random.Below(11));
  faults.duplication = 0.02;
  faults.reorder = 0.02;
  faults.stall = Pick(random, {0.0, 0.0002, 0.002});
  faults.stall_time = Duration::Milliseconds(static_cast<int64_t>(1 + random.Below(2000)));
  faults.delay = Duration::Microseconds(static_cast<int64_t>(1 + random.Below(5000)));
  faults.bytes_per_second = Pick<uint64_t>(random, {0, 3000000, 30000000, 300000000});
  return faults;
}

EngineConfig EthernetConfig(Protocol protocol) {
  EngineConfig config;
  config.protocol = protocol;
  config.peer = tloe::PeerProfile::kSpec;
  return config;
}

// Lets the peers run with one of them standing still now and then.
void RunWithStalls(Random& random, Pair& pair, Duration time) {
  const Instant end = pair.network.now() + time;
  while (pair.network.now() < end) {
    pair.RunFor(Duration::Microseconds(static_cast<int64_t>(1 + random.Below(200000))));
    if (random.Chance(0.5)) continue;
    (random.Chance(0.5) ? pair.initiator : pair.responder)
        .StallUntil(pair.network.now() +
                    Duration::Milliseconds(static_cast<int64_t>(random.Below(2000))));
  }
}

TEST_P(EngineSim, LossByChanceAndFullQueuesAreNotTakenForAWayThatTakesNoLongFrames) {
  ForEachSeed(200, [](uint64_t seed) {
    Random random(seed);
    Pair pair(random, EthernetConfig(GetParam()), seed);
    pair.initiator.Open(pair.network.now());
    pair.RunFor(Duration::Milliseconds(20));
    pair.network.SetFaults(DeepQueues(random));
    pair.initiator.Send(100000);
    pair.responder.Send(100000);
    RunWithStalls(random, pair, Duration::Seconds(5));
    EXPECT_EQ(pair.initiator.failures(tloe::Failure::kLongFramesLost), 0);
    EXPECT_EQ(pair.responder.failures(tloe::Failure::kLongFramesLost), 0);
    pair.ExpectRight();
  });
}

// So that nothing is known of the way when it gets bad.
TEST_P(EngineSim, NorWhenTheConnectionHasJustBegun) {
  ForEachSeed(150, [](uint64_t seed) {
    Random random(seed);
    Pair pair(random, EthernetConfig(GetParam()), seed);
    for (int i = 0; i < 6; ++i) {
      pair.network.SetFaults({});
      if (i == 0) pair.initiator.Open(pair.network.now());
      if (i > 0) pair.initiator.GiveUp(pair.network.now());
      pair.RunFor(Duration::Seconds(1), [&] { return pair.AtRest(); });
      pair.network.SetFaults(DeepQueues(random));
      pair.initiator.Send(1000);
      pair.responder.Send(1000);
      RunWithStalls(random, pair, Duration::Milliseconds(1500));
      pair.initiator.StallUntil(Instant());
      pair.responder.StallUntil(Instant());
      pair.network.Clear();
    }
    EXPECT_EQ(pair.initiator.failures(tloe::Failure::kLongFramesLost), 0);
    EXPECT_EQ(pair.responder.failures(tloe::Failure::kLongFramesLost), 0);
  });
}

TEST_P(EngineSim, AWayThatTakesNoLongFramesIsFoundOutThoughItLosesSomeByChance) {
  ForEachSeed(200, [](uint64_t seed) {
    Random random(seed);
    Pair pair(random, EthernetConfig(GetParam()), seed);
    pair.initiator.Open(pair.network.now());
    pair.RunFor(Duration::Seconds(1), [&] { return pair.AtRest(); });
    Faults faults;
    faults.loss = 0.005 * static_cast<double>(random.Below(11));
    faults.duplication = 0.01;
    faults.reorder = 0.02;
    faults.delay = Duration::Microseconds(static_cast<int64_t>(1 + random.Below(500)));
    faults.longest_frame = 256 + random.Below(250);
    pair.network.SetFaults(faults);
    if (random.Chance(0.7)) pair.initiator.Send(1000);
    if (random.Chance(0.7) || pair.initiator.unsent() == 0) pair.responder.Send(1000);
    const Instant start = pair.network.now();
    const auto found = [&pair] {
      return pair.initiator.failures(tloe::Failure::kLongFramesLost) +
                 pair.responder.failures(tloe::Failure::kLongFramesLost) >
             0;
    };
    pair.RunFor(Duration::Seconds(3), found);
    EXPECT_TRUE(found());
    const Duration took = pair.network.now() - start;
    EXPECT_LT(took, Duration::Seconds(1)) << took.seconds();
  });
}

}  // namespace
}  // namespace oxmem::sim
