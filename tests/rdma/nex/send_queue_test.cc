// What is posted while nothing new may be sent (SQD), and what needs no peer.
#include <gtest/gtest.h>

#include "tests/rdma/nex/loop.h"

namespace oxmem::nex {
namespace {

// Every test runs with several ways to cut the streams.
class SendQueue : public testing::TestWithParam<std::uint32_t> {
 protected:
  using Results = std::vector<std::pair<std::uint64_t, ibv_wc_status>>;

  static ibv_send_wr Wr(std::uint64_t id, ibv_wr_opcode opcode) {
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.opcode = opcode;
    wr.send_flags = IBV_SEND_SIGNALED;
    return wr;
  }
  int Send(std::uint64_t id) { return loop_.Send(0, Wr(id, IBV_WR_SEND), {loop_.Local(0, 0, 64)}); }
  void Receive(std::uint64_t id) { loop_.Receive(1, id, {loop_.Local(1, 4096, 64)}); }
  int Write(std::uint64_t id) {
    ibv_send_wr wr = Wr(id, IBV_WR_RDMA_WRITE);
    wr.wr.rdma = {b_.at(8192), b_.key()};
    return loop_.Send(0, wr, {loop_.Local(0, 0, 64)});
  }
  int Bind(std::uint64_t id) {
    BindWork bind;
    bind.window = window_;
    bind.key = window_key_;
    bind.binding = {.parent = a_.region,
                    .parent_key = a_.key(),
                    .address = a_.at(0),
                    .length = 64,
                    .access = IBV_ACCESS_REMOTE_READ,
                    .qpn = a_.qp->identity().qpn};
    const int error = a_.qp->Post(Wr(id, IBV_WR_BIND_MW), &bind, loop_.now);
    loop_.Collect(a_);
    return error;
  }
  int Invalidate(std::uint64_t id, std::uint32_t key) {
    ibv_send_wr wr = Wr(id, IBV_WR_LOCAL_INV);
    wr.invalidate_rkey = key;
    return loop_.Send(0, wr);
  }
  void SetSending(bool allowed) {
    a_.qp->SetSending(allowed, loop_.now);
    loop_.Collect(a_);
  }
  Results Done() {
    Results done;
    for (const Completion& one : a_.done) done.emplace_back(one.wc.wr_id, one.wc.status);
    return done;
  }

  Loop loop_{GetParam(), IBV_QPT_RC, Loop::DefaultParameters(), /*shared_receives=*/true};
  Loop::Side& a_ = loop_.sides[0];
  Loop::Side& b_ = loop_.sides[1];
  std::uint32_t window_key_ = 0;
  Region* const window_ = a_.regions->AddWindow(1, &window_key_);
};

INSTANTIATE_TEST_SUITE_P(Seeds, SendQueue, testing::Range(1u, 9u));

TEST_P(SendQueue, IsDrainedWhateverIsPostedSinceSendingEnded) {
  SetSending(false);
  Receive(100);
  ASSERT_EQ(0, Send(1));
  ASSERT_EQ(0, Bind(2));
  loop_.Run();
  EXPECT_TRUE(a_.qp->drained());
  EXPECT_TRUE(a_.done.empty() && b_.done.empty());
  SetSending(true);
  loop_.Run();
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}}), Done());
}

TEST_P(SendQueue, IsNotDrainedBeforeWhatIsUnderWayIsAnswered) {
  ASSERT_EQ(0, Write(1));
  // It is staged, and not yet written.
  IoBatch batch;
  ASSERT_TRUE(a_.qp->FillOutput(&batch, true));
  batch.Release();
  SetSending(false);
  ASSERT_EQ(0, Write(2));
  EXPECT_FALSE(a_.qp->drained());
  loop_.Run();
  EXPECT_TRUE(a_.qp->drained());
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}}), Done());
  SetSending(true);
  loop_.Run();
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}}), Done());
}

TEST_P(SendQueue, IsDrainedWhenWhatHadNoReceiveHasGoneAgain) {
  ASSERT_EQ(0, Send(1));
  loop_.Run();
  SetSending(false);
  ASSERT_EQ(0, Send(2));
  loop_.Run();
  EXPECT_FALSE(a_.qp->drained());
  EXPECT_TRUE(a_.done.empty());
  Receive(100);
  Receive(101);
  loop_.Run();
  EXPECT_TRUE(a_.qp->drained());
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}}), Done());
  EXPECT_EQ(1u, b_.done.size());
  SetSending(true);
  loop_.Run();
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}}), Done());
  EXPECT_EQ(2u, b_.done.size());
}

TEST_P(SendQueue, WaitsForNoPeerWhileNothingMayBeSent) {
  loop_.CutBoth();
  ASSERT_EQ(0, Send(1));
  EXPECT_FALSE(a_.qp->deadline().is_never());
  SetSending(false);
  ASSERT_EQ(0, Send(2));
  EXPECT_TRUE(a_.qp->drained());
  EXPECT_TRUE(a_.qp->deadline().is_never());
  loop_.now = loop_.now + Duration::Seconds(100);
  SetSending(true);
  EXPECT_EQ(loop_.now + Loop::DefaultParameters().peer_timeout, a_.qp->deadline());
  Receive(100);
  Receive(101);
  loop_.Join();
  loop_.Run();
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}}), Done());
}

TEST_P(SendQueue, IsDrainedWithAStreamOverWhichNothingWent) {
  loop_.CutBoth();
  ASSERT_EQ(0, Write(1));
  loop_.Join();
  IoBatch batch;
  ASSERT_TRUE(a_.qp->FillOutput(&batch, true));
  batch.Release();
  SetSending(false);
  EXPECT_FALSE(a_.qp->drained());
  loop_.CutBoth();
  EXPECT_TRUE(a_.qp->drained());
  EXPECT_TRUE(a_.qp->deadline().is_never());
  loop_.Join();
  loop_.Run();
  EXPECT_TRUE(a_.done.empty());
  SetSending(true);
  loop_.Run();
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}}), Done());
}

TEST_P(SendQueue, DoesAtOnceWhatNeedsNoPeer) {
  loop_.CutBoth();
  ASSERT_EQ(0, Bind(1));
  EXPECT_EQ(window_key_, window_->key);
  ASSERT_EQ(0, Invalidate(2, window_key_));
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}}), Done());
  EXPECT_TRUE(a_.qp->deadline().is_never());
  // Behind what needs one it has to wait, as requests are done in order.
  ASSERT_EQ(0, Write(3));
  ASSERT_EQ(0, Bind(4));
  EXPECT_EQ(2u, a_.done.size());
  EXPECT_FALSE(a_.qp->deadline().is_never());
  loop_.Join();
  loop_.Run();
  EXPECT_EQ(
      (Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}, {3, IBV_WC_SUCCESS}, {4, IBV_WC_SUCCESS}}),
      Done());
}

TEST_P(SendQueue, FailsAtOnceByWhatIsWrongHere) {
  loop_.CutBoth();
  ASSERT_EQ(0, Invalidate(1, a_.key()));
  EXPECT_EQ((Results{{1, IBV_WC_MW_BIND_ERR}}), Done());
  EXPECT_TRUE(a_.qp->TakeSelfFailed());
  EXPECT_TRUE(a_.qp->deadline().is_never());
}

TEST_P(SendQueue, DoesWhatNeedsNoPeerAfterThePeerHasGone) {
  ASSERT_EQ(0, Write(1));
  loop_.Run();
  loop_.CutBoth();
  ASSERT_TRUE(a_.qp->gone());
  ASSERT_EQ(0, Bind(2));
  ASSERT_EQ(0, Invalidate(3, window_key_));
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}, {3, IBV_WC_SUCCESS}}), Done());
  EXPECT_TRUE(a_.qp->deadline().is_never());
  EXPECT_FALSE(a_.qp->TakeSelfFailed());
}

TEST_P(SendQueue, LosesNothingToAPeerThatHasGoneWhileNothingMayBeSent) {
  ASSERT_EQ(0, Write(1));
  loop_.Run();
  SetSending(false);
  ASSERT_EQ(0, Bind(2));
  loop_.CutBoth();
  ASSERT_TRUE(a_.qp->gone());
  ASSERT_EQ(0, Invalidate(3, window_key_));
  EXPECT_TRUE(a_.qp->deadline().is_never());
  SetSending(true);
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}, {3, IBV_WC_SUCCESS}}), Done());
  ASSERT_EQ(0, Write(4));
  EXPECT_EQ(loop_.now + QueuePair::kLongestLoss, a_.qp->deadline());
  SetSending(false);
  EXPECT_TRUE(a_.qp->deadline().is_never());
  SetSending(true);
  loop_.AdvanceTo(a_.qp->deadline());
  EXPECT_EQ((std::pair<std::uint64_t, ibv_wc_status>{4, IBV_WC_RETRY_EXC_ERR}), Done().back());
}

TEST_P(SendQueue, LosesWhatIsUnderWayWhenItsPeerGoes) {
  ASSERT_EQ(0, Send(1));
  loop_.Run();
  SetSending(false);
  ASSERT_EQ(0, Send(2));
  loop_.CutBoth();
  EXPECT_EQ(loop_.now + QueuePair::kLongestLoss, a_.qp->deadline());
  SetSending(true);
  loop_.AdvanceTo(a_.qp->deadline());
  EXPECT_EQ((Results{{1, IBV_WC_RETRY_EXC_ERR}, {2, IBV_WC_WR_FLUSH_ERR}}), Done());
}

}  // namespace
}  // namespace oxmem::nex
