#include "transport/compose/mirror_state.h"

#include <fcntl.h>

#include <array>
#include <string>

#include "gmock/gmock.h"
#include "tests/transport/compose/leg_fixture.h"
#include "transport/compose/mirrored_channel.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSize = 64 << 10;

// Channels to one mirror of two legs, on a clock that the test moves.
class SharedMirror : public testing::Test {
 protected:
  SharedMirror() {
    for (TestLeg& leg : legs_) leg.memory = *CreateMemory(kSize, HugePages::kNo);
  }

  std::unique_ptr<MirroredChannel> Open(std::shared_ptr<MirrorState> state, bool copy = false) {
    std::vector<std::unique_ptr<Channel>> channels;
    for (TestLeg& leg : legs_) channels.push_back(OpenLeg(leg, {.clock = [this] { return now_; }}));
    return *MirroredChannel::Create(
        std::move(channels),
        {.copy_at_open = copy, .state = std::move(state), .clock = [this] { return now_; }});
  }
  // As the process that goes on gets it.
  static std::shared_ptr<MirrorState> Kept(const MirrorState& state) {
    return *MirrorState::Adopt(2, UniqueFd(fcntl(state.fd(), F_DUPFD_CLOEXEC, 0)));
  }

  Code Run(Channel& channel, const Request& request) {
    EXPECT_EQ(channel.Submit({&request, 1}), 1u);
    Completion completion{.code = Code::kClosed};
    for (int i = 0; i < 1000; ++i) {
      if (channel.Poll({&completion, 1}) == 1) return completion.code;
      now_ = now_ + Duration::Milliseconds(10);
    }
    ADD_FAILURE() << "never completed";
    return Code::kClosed;
  }
  Code Write(Channel& channel, int value) {
    std::vector<std::byte> bytes = Filled(64, value);
    return Run(channel, {.op = Op::kWrite, .length = bytes.size(), .buffer = bytes.data()});
  }
  std::vector<std::byte> Read(Channel& channel) {
    std::vector<std::byte> bytes(64);
    EXPECT_EQ(Run(channel, {.op = Op::kRead, .length = bytes.size(), .buffer = bytes.data()}),
              Code::kOk);
    return bytes;
  }
  bool Heal(Channel& channel) {
    std::array<Completion, 1> none;
    for (int i = 0; i < 1000 && !channel.health().ok(); ++i) {
      channel.Poll(none);
      now_ = now_ + Duration::Milliseconds(10);
    }
    return channel.health().ok();
  }

  Instant now_ = Instant::FromNanoseconds(1);
  std::array<TestLeg, 2> legs_;
};

TEST_F(SharedMirror, WhoeverGoesOnKnowsWhichLegIsOutBeforeTheWriteIsAnswered) {
  const auto state = *MirrorState::Create(2);
  auto first = Open(state);
  ASSERT_EQ(Write(*first, 1), Code::kOk);
  legs_[0].fault->CutPeer();
  ASSERT_EQ(Write(*first, 2), Code::kOk);
  ASSERT_TRUE(legs_[0].Holds(0, Filled(64, 1)));
  // The peer is there again; nothing was copied when the process was killed.
  const auto kept = Kept(*state);
  EXPECT_TRUE(kept->adopted());
  EXPECT_EQ(kept->in_sync(), 2u);
  const auto next = Open(kept, /*copy=*/true);
  EXPECT_EQ(Read(*next), Filled(64, 2));
  ASSERT_TRUE(Heal(*next)) << next->health();
  EXPECT_TRUE(legs_[0].Holds(0, Filled(64, 2)));
  EXPECT_EQ(Kept(*state)->in_sync(), 3u);
}

TEST_F(SharedMirror, TheLegsAreCopiedAtTheFirstOpeningOfAll) {
  const auto state = *MirrorState::Create(2);
  auto first = Open(state, /*copy=*/true);
  EXPECT_EQ(state->in_sync(), 1u);
  ASSERT_TRUE(Heal(*first));
  const auto second = Open(state, /*copy=*/true);
  const auto next = Open(Kept(*state), /*copy=*/true);
  EXPECT_EQ(state->in_sync(), 3u);
}

TEST_F(SharedMirror, ALegThatOneChannelFindsLostIsReadByNone) {
  const auto state = *MirrorState::Create(2);
  const auto one = Open(state);
  FaultChannel& fault = *legs_[0].fault;
  const auto other = Open(state);  // whose way to the leg is well
  ASSERT_EQ(Write(*one, 1), Code::kOk);
  fault.CutPeer();
  ASSERT_EQ(Write(*one, 2), Code::kOk);
  EXPECT_EQ(Read(*other), Filled(64, 2));
  EXPECT_THAT(std::string(other->health().message()), HasSubstr("leg 1 of 2"));
  ASSERT_EQ(Write(*other, 3), Code::kOk);
  // The one that reaches it brings it back for both.
  ASSERT_TRUE(Heal(*other)) << other->health();
  EXPECT_TRUE(legs_[0].Holds(0, Filled(64, 3)));
  EXPECT_EQ(state->in_sync(), 3u);
}

TEST_F(SharedMirror, TwoChannelsDoNotTakeOutBothLegs) {
  const auto state = *MirrorState::Create(2);
  EXPECT_TRUE(state->TakeOut(0));
  EXPECT_FALSE(state->TakeOut(0));
  EXPECT_FALSE(Kept(*state)->TakeOut(1));
  EXPECT_EQ(state->in_sync(), 2u);
}

TEST_F(SharedMirror, LimitsOfLegsAreKnownToWhoeverGoesOn) {
  const auto state = *MirrorState::Create(2);
  const Limits limits{.size_bytes = kSize,
                      .alignment_bytes = 8,
                      .largest_request_bytes = 4096,
                      .depth = 7,
                      .zero = true,
                      .persistent = true,
                      .atomics = AtomicOps().With(AtomicOp::kAdd),
                      .local_memory = {}};
  const std::array<Limits, 2> both = {limits, limits};
  state->Begin(both, false);
  const Limits known = Kept(*state)->LimitsOf(1);
  EXPECT_EQ(known.size_bytes, kSize);
  EXPECT_EQ(known.alignment_bytes, 8u);
  EXPECT_EQ(known.largest_request_bytes, 4096u);
  EXPECT_EQ(known.depth, 7u);
  EXPECT_TRUE(known.zero && known.persistent && !known.read_only && !known.prefetch);
  EXPECT_TRUE(known.atomics.Has(AtomicOp::kAdd) && !known.atomics.Has(AtomicOp::kSwap));
}

TEST_F(SharedMirror, WhatWasKeptOfSomethingElseIsRefused) {
  const auto state = *MirrorState::Create(3);
  EXPECT_THAT(std::string(MirrorState::Adopt(2, UniqueFd(fcntl(state->fd(), F_DUPFD_CLOEXEC, 0)))
                              .status()
                              .message()),
              HasSubstr("of another one"));
  const auto memory = *CreateMemory(4096, HugePages::kNo);
  EXPECT_FALSE(MirrorState::Adopt(2, UniqueFd(fcntl(memory->fd(), F_DUPFD_CLOEXEC, 0))).ok());
}

}  // namespace
}  // namespace oxmem::transport
