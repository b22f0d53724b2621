#include "transport/compose/mirrored_channel.h"

#include <array>
#include <string>

#include "gmock/gmock.h"
#include "tests/transport/compose/leg_fixture.h"

namespace oxmem::transport {
namespace {

using testing::HasSubstr;

constexpr uint64_t kSize = (2 << 20) + 4096;  // the copy takes three pieces

// A mirror on a clock that the test moves.
class Mirror : public testing::Test {
 protected:
  void Make(std::size_t legs, MirrorOptions options = {}, std::vector<FaultOptions> faults = {},
            const MemoryChannelOptions& memory = {.depth = 32}) {
    channel_.reset();
    legs_.assign(legs, TestLeg());
    faults.resize(legs);
    std::vector<std::unique_ptr<Channel>> channels;
    for (std::size_t i = 0; i < legs; ++i) {
      faults[i].clock = [this] { return now_; };
      channels.push_back(MakeLeg(legs_[i], kSize, faults[i], memory));
    }
    options.clock = [this] { return now_; };
    auto made = MirroredChannel::Create(std::move(channels), std::move(options));
    ASSERT_TRUE(made.ok()) << made.status();
    channel_ = *std::move(made);
  }

  // Runs a request, letting time pass in steps until it is done.
  Completion Run(const Request& request) {
    EXPECT_EQ(channel_->Submit({&request, 1}), 1u);
    Completion completion{.code = Code::kClosed};
    for (int i = 0; i < 1000; ++i) {
      if (channel_->Poll({&completion, 1}) == 1) return completion;
      now_ = now_ + Duration::Milliseconds(10);
    }
    ADD_FAILURE() << "never completed";
    return completion;
  }
  Code Write(uint64_t offset, std::vector<std::byte> bytes) {
    return Run({.op = Op::kWrite, .offset = offset, .length = bytes.size(), .buffer = bytes.data()})
        .code;
  }
  std::vector<std::byte> Read(uint64_t offset, uint64_t length) {
    std::vector<std::byte> bytes(length);
    const Request request{
        .op = Op::kRead, .offset = offset, .length = length, .buffer = bytes.data()};
    EXPECT_EQ(Run(request).code, Code::kOk);
    return bytes;
  }
  // Lets time pass until the mirror says that it is well.
  bool Heal() {
    std::array<Completion, 1> none;
    for (int i = 0; i < 1000; ++i) {
      EXPECT_EQ(channel_->Poll(none), 0u);
      if (channel_->health().ok()) return true;
      now_ = now_ + Duration::Milliseconds(10);
    }
    return false;
  }
  std::string Health() { return std::string(channel_->health().message()); }
  bool LegsAreEqual() {
    return std::memcmp(legs_[0].memory->data(), legs_[1].memory->data(), kSize) == 0;
  }

  Instant now_ = Instant::FromNanoseconds(1);
  std::vector<TestLeg> legs_;
  std::unique_ptr<MirroredChannel> channel_;
};

TEST_F(Mirror, WritesGoToAllLegs) {
  Make(3);
  EXPECT_EQ(Write(100, Filled(50, 7)), Code::kOk);
  for (const TestLeg& leg : legs_) EXPECT_TRUE(leg.Holds(100, Filled(50, 7)));
  EXPECT_EQ(Run({.op = Op::kZero, .offset = 110, .length = 10}).code, Code::kOk);
  EXPECT_EQ(Run({.op = Op::kAtomic, .offset = 128, .length = 8, .operand = 1}).code, Code::kOk);
  for (const TestLeg& leg : legs_) {
    EXPECT_TRUE(leg.Holds(110, Filled(10, 0)));
    EXPECT_TRUE(leg.Holds(128, Filled(1, 8)));
  }
}

TEST_F(Mirror, ReadsGoToTheFirstLegOrAreSpread) {
  Make(2);
  Read(0, 4096);
  Read(1 << 20, 4096);
  EXPECT_EQ(legs_[0].fault->stats().reads.value(), 2u);
  EXPECT_EQ(legs_[1].fault->stats().reads.value(), 0u);
  Make(2, {.read = MirrorOptions::Read::kSpread});
  Read(0, 4096);
  Read(1 << 20, 4096);
  Read(2 << 20, 4096);
  EXPECT_EQ(legs_[0].fault->stats().reads.value(), 2u);
  EXPECT_EQ(legs_[1].fault->stats().reads.value(), 1u);
}

TEST_F(Mirror, AReadThatFailsOnOneLegIsAnsweredByAnother) {
  for (const Code code : {Code::kFailed, Code::kCorrupt, Code::kDenied, Code::kPeerLost}) {
    Make(2, {}, {{.fail = 1, .code = code}});
    std::memset(legs_[1].memory->data(), 5, kSize);
    EXPECT_EQ(Read(64, 64), Filled(64, 5)) << CodeName(code);
  }
}

TEST_F(Mirror, ALegThatFailedAReadIsAvoidedUntilItAnswersAgain) {
  Make(2);
  legs_[0].fault->CutPeer();
  Read(0, 64);
  EXPECT_EQ(legs_[0].fault->stats().failures.value(), 1u);
  const Instant start = now_;
  for (int i = 0; i < 10; ++i) Read(0, 64);
  EXPECT_EQ(now_, start) << "later reads do not wait for the lost leg";
  EXPECT_THAT(Health(), HasSubstr("leg 1 of 2"));
}

TEST_F(Mirror, AReadThatNoLegAnswersFailsWithTheFirstReason) {
  Make(2, {}, {{.fail = 1, .code = Code::kCorrupt}, {.fail = 1, .code = Code::kDenied}});
  std::vector<std::byte> bytes(64);
  EXPECT_EQ(Run({.op = Op::kRead, .length = 64, .buffer = bytes.data()}).code, Code::kCorrupt);
}

TEST_F(Mirror, AWriteSucceedsWhileOneLegTakesIt) {
  Make(2);
  legs_[1].fault->CutPeer();
  EXPECT_EQ(Write(0, Filled(64, 1)), Code::kOk);
  EXPECT_THAT(Health(), HasSubstr("leg 2 of 2"));
  EXPECT_THAT(Health(), HasSubstr("out of sync and not used"));
  const Instant start = now_;
  EXPECT_EQ(Write(0, Filled(64, 2)), Code::kOk);
  EXPECT_EQ(now_, start) << "a leg that is out is not waited for";
  EXPECT_TRUE(legs_[0].Holds(0, Filled(64, 2)));
  EXPECT_TRUE(legs_[1].Holds(0, Filled(64, 0)));
  EXPECT_EQ(Read(0, 64), Filled(64, 2));
}

TEST_F(Mirror, ALegThatMissedAWriteIsNotReadBeforeItsResync) {
  Make(2, {.read = MirrorOptions::Read::kSpread}, {{.fail = 1, .most = 1}});
  EXPECT_EQ(Write(0, Filled(64, 9)), Code::kOk);  // leg 1 answers again but missed this
  EXPECT_TRUE(legs_[0].Holds(0, Filled(64, 0)));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Read(0, 64), Filled(64, 9));
}

TEST_F(Mirror, AReturnedLegIsBroughtInSyncAndUsedAgain) {
  Make(2);
  ASSERT_EQ(Write(0, Filled(kSize, 1)), Code::kOk);
  legs_[0].fault->CutPeer();
  ASSERT_EQ(Write(4096, Filled(4096, 2)), Code::kOk);
  ASSERT_EQ(Write(kSize - 10, Filled(10, 3)), Code::kOk);
  legs_[0].fault->RestorePeer();
  ASSERT_TRUE(Heal()) << Health();
  EXPECT_TRUE(LegsAreEqual());
  legs_[1].fault->CutPeer();
  EXPECT_EQ(Read(4096, 4096), Filled(4096, 2));
  EXPECT_EQ(Write(0, Filled(64, 4)), Code::kOk);
}

TEST_F(Mirror, WritesDuringAResyncAreOnBothLegsAfterIt) {
  Make(2);
  legs_[0].fault->CutPeer();
  ASSERT_EQ(Write(0, Filled(kSize, 1)), Code::kOk);
  legs_[0].fault->RestorePeer();
  int writes = 0;
  bool saw_progress = false;
  for (int i = 0; i < 2000 && !channel_->health().ok(); ++i) {
    saw_progress = saw_progress || Health().find("being brought in sync") != std::string::npos;
    const uint64_t offset = static_cast<uint64_t>(i) * 409999 % (kSize - 100);
    ASSERT_EQ(Write(offset, Filled(100, ++writes)), Code::kOk);
    now_ = now_ + Duration::Milliseconds(7);
  }
  EXPECT_TRUE(saw_progress);
  ASSERT_TRUE(channel_->health().ok()) << Health();
  EXPECT_GT(writes, 5);
  EXPECT_TRUE(LegsAreEqual());
}

TEST_F(Mirror, APeerThatMayHaveForgottenIsCopiedToBeforeItIsRead) {
  Make(2);
  ASSERT_EQ(Write(0, Filled(kSize, 6)), Code::kOk);
  // The first leg's node restarts with nothing in its memory, and no request was under way.
  legs_[0].fault->CutPeer();
  std::memset(legs_[0].memory->data(), 0, kSize);
  legs_[0].fault->RestorePeer();
  EXPECT_EQ(Read(77, 100), Filled(100, 6));
  ASSERT_TRUE(Heal()) << Health();
  EXPECT_TRUE(legs_[0].Holds(0, Filled(kSize, 6)));
}

TEST_F(Mirror, APersistentPeerThatMissedNothingIsStillInSync) {
  Make(2, {}, {}, {.depth = 32, .persistent = true});
  ASSERT_EQ(Write(0, Filled(64, 6)), Code::kOk);
  legs_[0].fault->CutPeer();
  legs_[0].fault->RestorePeer();
  EXPECT_EQ(Read(0, 64), Filled(64, 6));
  EXPECT_TRUE(channel_->health().ok()) << Health();
}

TEST_F(Mirror, TheLastLegInSyncIsNotGivenUp) {
  Make(2);
  ASSERT_EQ(Write(0, Filled(64, 1)), Code::kOk);
  for (TestLeg& leg : legs_) leg.fault->CutPeer();
  EXPECT_EQ(Write(0, Filled(64, 2)), Code::kTimedOut);
  EXPECT_FALSE(channel_->health().ok());
  for (TestLeg& leg : legs_) leg.fault->RestorePeer();
  ASSERT_TRUE(Heal()) << Health();
  EXPECT_TRUE(LegsAreEqual());
  EXPECT_EQ(Write(0, Filled(64, 3)), Code::kOk);
  EXPECT_EQ(Read(0, 64), Filled(64, 3));
}

// The first leg takes the write, but is out by the time the second one fails it.
TEST_F(Mirror, AWriteThatNoLegInSyncHasFails) {
  Make(2, {}, {{.fail = 1, .skip = 1}, {}});
  legs_[1].fault->CutPeer();
  auto bytes = Filled(64, 1);
  const std::array<Request, 2> requests = {
      Request{.op = Op::kWrite, .offset = 0, .length = 64, .buffer = bytes.data(), .cookie = 1},
      Request{.op = Op::kWrite, .offset = 64, .length = 64, .buffer = bytes.data(), .cookie = 2}};
  ASSERT_EQ(channel_->Submit(requests), 2u);
  std::array<Completion, 4> completions;
  EXPECT_EQ(channel_->Poll(completions), 0u);
  now_ = now_ + Duration::Seconds(6);
  std::size_t count = 0;
  for (int i = 0; i < 10 && count < 2; ++i) {
    count += channel_->Poll(std::span(completions).subspan(count));
  }
  ASSERT_EQ(count, 2u);
  EXPECT_TRUE(legs_[0].Holds(0, Filled(64, 1)));
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_NE(completions[i].code, Code::kOk) << "write " << completions[i].cookie;
  }
}

TEST_F(Mirror, AResyncThatFailsBeginsAgain) {
  Make(2);
  ASSERT_EQ(Write(0, Filled(kSize, 1)), Code::kOk);
  legs_[1].fault->CutPeer();
  ASSERT_EQ(Write(0, Filled(kSize, 2)), Code::kOk);
  legs_[1].fault->RestorePeer();
  std::array<Completion, 1> none;
  for (int i = 0; i < 100 && Health().find("brought in sync") == std::string::npos; ++i) {
    channel_->Poll(none);
    now_ = now_ + Duration::Milliseconds(10);
  }
  ASSERT_THAT(Health(), HasSubstr("brought in sync"));
  legs_[1].fault->CutPeer();
  ASSERT_EQ(Write(0, Filled(64, 3)), Code::kOk);
  EXPECT_THAT(Health(), HasSubstr("out of sync"));
  legs_[1].fault->RestorePeer();
  ASSERT_TRUE(Heal()) << Health();
  EXPECT_TRUE(LegsAreEqual());
}

TEST_F(Mirror, CopyAtOpenMakesTheOthersLikeTheFirst) {
  Make(2, {.copy_at_open = true});
  std::memset(legs_[0].memory->data(), 1, kSize);
  std::memset(legs_[1].memory->data(), 2, kSize);
  EXPECT_THAT(Health(), HasSubstr("leg 2 of 2"));
  ASSERT_TRUE(Heal()) << Health();
  EXPECT_TRUE(legs_[1].Holds(0, Filled(kSize, 1)));
}

TEST_F(Mirror, OverlappingWritesInFlightLeaveTheLegsEqual) {
  Make(2, {}, {{.short_submit = 0.5, .seed = 3}, {.short_submit = 0.5, .seed = 4}});
  for (int round = 0; round < 50; ++round) {
    std::vector<std::vector<std::byte>> buffers;
    std::vector<Request> requests;
    for (int i = 0; i < 10; ++i) {
      buffers.push_back(Filled(300, round * 10 + i));
      requests.push_back({.op = Op::kWrite,
                          .offset = static_cast<uint64_t>(i * 50),
                          .length = 300,
                          .buffer = buffers.back().data()});
    }
    ASSERT_EQ(channel_->Submit(requests), requests.size());
    Completion completion;
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(PollFor(*channel_, &completion));
    ASSERT_TRUE(LegsAreEqual()) << round;
  }
}

TEST_F(Mirror, CloseEndsWhatWaitsBehindOverlaps) {
  Make(2);
  for (TestLeg& leg : legs_) leg.fault->CutPeer();
  auto bytes = Filled(64, 1);
  std::vector<Request> requests(5, Request{.op = Op::kWrite, .length = 64, .buffer = bytes.data()});
  requests.push_back({.op = Op::kFlush});
  for (std::size_t i = 0; i < requests.size(); ++i) requests[i].cookie = i;
  ASSERT_EQ(channel_->Submit(requests), 6u);
  channel_->Close();
  Completion completion;
  for (uint64_t i = 0; i < 6; ++i) {
    ASSERT_TRUE(PollFor(*channel_, &completion));
    EXPECT_EQ(completion.cookie, i) << "in order";
    EXPECT_EQ(completion.code, Code::kClosed);
  }
}

TEST_F(Mirror, OneLegIsNoMirror) {
  std::vector<std::unique_ptr<Channel>> channels;
  TestLeg leg;
  channels.push_back(MakeLeg(leg, kSize, {}));
  EXPECT_THAT(std::string(MirroredChannel::Create(std::move(channels), {}).status().message()),
              HasSubstr("2 to 64 legs, not 1"));
}

}  // namespace
}  // namespace oxmem::transport
