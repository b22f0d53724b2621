// Streams that end before anything of the programs went over them, and those that end later.
#include <gtest/gtest.h>

#include "tests/rdma/nex/loop.h"

namespace oxmem::nex {
namespace {

// Every test runs with several ways to cut the streams.
class UntouchedStream : public testing::TestWithParam<std::uint32_t> {
 protected:
  static ibv_send_wr Wr(std::uint64_t id, ibv_wr_opcode opcode) {
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.opcode = opcode;
    wr.send_flags = IBV_SEND_SIGNALED;
    return wr;
  }
  static int Send(Loop& loop, std::uint64_t id) {
    return loop.Send(0, Wr(id, IBV_WR_SEND), {loop.Local(0, 0, 64)});
  }
  static std::vector<std::pair<std::uint64_t, ibv_wc_status>> Done(const Loop::Side& side) {
    std::vector<std::pair<std::uint64_t, ibv_wc_status>> done;
    for (const Completion& one : side.done) done.emplace_back(one.wc.wr_id, one.wc.status);
    return done;
  }
  using Results = std::vector<std::pair<std::uint64_t, ibv_wc_status>>;

  Loop loop_{GetParam()};
  Loop::Side& a_ = loop_.sides[0];
  Loop::Side& b_ = loop_.sides[1];
};

INSTANTIATE_TEST_SUITE_P(Seeds, UntouchedStream, testing::Range(1u, 9u));

TEST_P(UntouchedStream, IsFollowedByAnotherAsIfItHadNotBeen) {
  for (int round = 0; round < 5; ++round) {
    loop_.Run();  // credits go both ways
    EXPECT_TRUE(a_.qp->untouched() && b_.qp->untouched());
    loop_.CutBoth();
    EXPECT_FALSE(a_.qp->gone() || b_.qp->gone());
    EXPECT_TRUE(a_.qp->deadline().is_never());
    loop_.Join();
  }
  for (std::uint64_t i = 0; i < 3; ++i) {
    loop_.Receive(1, 100 + i, {loop_.Local(1, 4096, 64)});
    ASSERT_EQ(0, Send(loop_, i));
  }
  loop_.Run();
  EXPECT_EQ((Results{{0, IBV_WC_SUCCESS}, {1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}}), Done(a_));
  EXPECT_EQ(3u, b_.done.size());
}

TEST_P(UntouchedStream, LeavesTheRequestsThatWaitToTheNext) {
  loop_.Receive(1, 100, {loop_.Local(1, 4096, 64)});
  loop_.Receive(1, 101, {loop_.Local(1, 4096, 64)});
  ASSERT_EQ(0, Send(loop_, 1));
  // It is staged, and no byte of it was written.
  IoBatch batch;
  ASSERT_TRUE(a_.qp->FillOutput(&batch, true));
  batch.Release();
  loop_.CutBoth();
  ASSERT_EQ(0, Send(loop_, 2));
  loop_.Join();
  loop_.Run();
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}}), Done(a_));
  EXPECT_EQ((Results{{100, IBV_WC_SUCCESS}, {101, IBV_WC_SUCCESS}}), Done(b_));
}

TEST_P(UntouchedStream, TakesTheCreditsOfItsPeerAlong) {
  for (std::uint64_t i = 0; i < 5; ++i) loop_.Receive(1, 100 + i, {loop_.Local(1, 4096, 64)});
  loop_.Run();
  loop_.CutBoth();
  // The peer has begun anew, with fewer receives.
  b_.receives.works.resize(1);
  b_.qp->Reset();
  b_.qp->SetSending(true, loop_.now);
  loop_.Join();
  loop_.Run();
  ASSERT_EQ(0, Send(loop_, 1));
  ASSERT_EQ(0, Send(loop_, 2));
  loop_.Run();
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}}), Done(a_));
  EXPECT_EQ(Instant::Never(), a_.qp->deadline());  // it does not go out in vain
  loop_.Receive(1, 110, {loop_.Local(1, 4096, 64)});
  loop_.Run();
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}, {2, IBV_WC_SUCCESS}}), Done(a_));
}

TEST_P(UntouchedStream, GivesAPeerThatComesAndGoesNoMoreTime) {
  loop_.CutBoth();
  ASSERT_EQ(0, Send(loop_, 1));
  const Instant end = loop_.now + Loop::DefaultParameters().peer_timeout;
  for (int round = 0; round < 9; ++round) {
    EXPECT_EQ(end, a_.qp->deadline());
    loop_.AdvanceTo(loop_.now + Duration::Milliseconds(100));
    a_.qp->Attach();
    EXPECT_TRUE(a_.qp->deadline().is_never());
    a_.qp->Detach(loop_.now);
  }
  EXPECT_TRUE(a_.done.empty());
  loop_.AdvanceTo(end);
  EXPECT_EQ((Results{{1, IBV_WC_RETRY_EXC_ERR}}), Done(a_));
}

TEST_P(UntouchedStream, IsNoneOfWhichARequestWentOut) {
  for (const std::size_t bytes : {std::size_t{1}, kHeaderBytes, kHeaderBytes + 64}) {
    Loop loop(GetParam());
    loop.Run();
    ASSERT_EQ(0, loop.Send(0, Wr(1, IBV_WR_RDMA_WRITE), {loop.Local(0, 0, 64)}));
    IoBatch batch;
    ASSERT_TRUE(loop.sides[0].qp->FillOutput(&batch, true));
    ASSERT_LE(bytes, batch.bytes);
    batch.Release();
    loop.sides[0].qp->OnWritten(bytes);
    EXPECT_FALSE(loop.sides[0].qp->untouched());
    loop.Cut(0);
    EXPECT_TRUE(loop.sides[0].qp->gone());
  }
}

TEST_P(UntouchedStream, IsNoneOfWhichAnythingButCreditsCame) {
  FrameHeader request, credits;
  request.type = FrameType::kWrite;
  credits.type = FrameType::kCredits;
  std::array<std::byte, kHeaderBytes> bytes;
  EncodeHeader(credits, bytes);
  Loop loop(GetParam());
  QueuePair& qp = *loop.sides[1].qp;
  ASSERT_TRUE(qp.OnBytes(bytes, loop.now));
  EXPECT_TRUE(qp.untouched());
  EncodeHeader(request, bytes);
  ASSERT_TRUE(qp.OnBytes(std::span(bytes).first(1), loop.now));
  EXPECT_FALSE(qp.untouched());
  loop.Cut(1);
  EXPECT_TRUE(qp.gone());

  Loop other(GetParam());
  bytes[0] = std::byte{200};  // no frame at all
  EXPECT_FALSE(other.sides[1].qp->OnBytes(bytes, other.now));
  other.Cut(1);
  EXPECT_TRUE(other.sides[1].qp->gone());
}

TEST_P(UntouchedStream, IsNoneBesideWhichACopyWasMade) {
  a_.qp->CompleteDirect(Wr(1, IBV_WR_RDMA_WRITE), 8);
  b_.qp->Touch();
  loop_.CutBoth();
  EXPECT_TRUE(a_.qp->gone() && b_.qp->gone());
}

TEST_P(UntouchedStream, OfAnUnreliablePairCompletesNothing) {
  Loop loop(GetParam(), IBV_QPT_UC);
  loop.sides[0].qp->SetSending(false, loop.now);  // so it waits
  ASSERT_EQ(0, Send(loop, 1));
  loop.Run();
  loop.CutBoth();
  EXPECT_TRUE(loop.sides[0].done.empty());
  loop.sides[0].qp->SetSending(true, loop.now);
  loop.AdvanceTo(loop.sides[0].qp->deadline());
  EXPECT_EQ((Results{{1, IBV_WC_SUCCESS}}), Done(loop.sides[0]));
  // What was given up before the peer came is nothing that it waits for.
  loop.Receive(1, 100, {loop.Local(1, 4096, 64)});
  loop.Join();
  ASSERT_EQ(0, Send(loop, 2));
  loop.Run();
  EXPECT_EQ((Results{{100, IBV_WC_SUCCESS}}), Done(loop.sides[1]));
}

}  // namespace
}  // namespace oxmem::nex
