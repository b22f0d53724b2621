#include "rdma/nex/qp/queue_pair.h"

#include <endian.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/rdma/nex/loop.h"

namespace oxmem::nex {
namespace {

// Every test runs with several ways to cut the streams.
class QueuePairSim : public testing::TestWithParam<std::uint32_t> {
 protected:
  Loop loop_{GetParam()};
  Loop::Side& a_ = loop_.sides[0];
  Loop::Side& b_ = loop_.sides[1];

  static ibv_send_wr Wr(std::uint64_t id, ibv_wr_opcode opcode,
                        unsigned flags = IBV_SEND_SIGNALED) {
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.opcode = opcode;
    wr.send_flags = flags;
    return wr;
  }
  ibv_send_wr Remote(std::uint64_t id, ibv_wr_opcode opcode, std::uint64_t address) {
    ibv_send_wr wr = Wr(id, opcode);
    wr.wr.rdma = {address, b_.key()};
    return wr;
  }
  ibv_send_wr Atomic(std::uint64_t id, ibv_wr_opcode opcode, std::uint64_t address,
                     std::uint64_t operand, std::uint64_t swap = 0) {
    ibv_send_wr wr = Wr(id, opcode);
    wr.wr.atomic = {address, operand, swap, b_.key()};
    return wr;
  }
};

INSTANTIATE_TEST_SUITE_P(Seeds, QueuePairSim, testing::Range(1u, 9u));

TEST_P(QueuePairSim, SendsArriveInOrderWithTheirBytes) {
  for (std::uint32_t i = 0; i < 50; ++i) {
    loop_.Receive(1, 1000 + i,
                  {loop_.Local(1, i * 2000, 700), loop_.Local(1, i * 2000 + 1000, 900)});
    std::memset(a_.memory.data() + i * 2000, static_cast<int>(i + 1), 1500);
    ASSERT_EQ(0,
              loop_.Send(0, Wr(i, IBV_WR_SEND),
                         {loop_.Local(0, i * 2000, 1000), loop_.Local(0, i * 2000 + 1000, 500)}));
  }
  loop_.Run();
  ASSERT_EQ(50u, a_.done.size());
  ASSERT_EQ(50u, b_.done.size());
  for (std::uint32_t i = 0; i < 50; ++i) {
    EXPECT_EQ(i, a_.done[i].wc.wr_id);
    EXPECT_EQ(IBV_WC_SUCCESS, a_.done[i].wc.status);
    EXPECT_EQ(1000 + i, b_.done[i].wc.wr_id);
    EXPECT_EQ(1500u, b_.done[i].wc.byte_len);
    const std::vector<std::byte> expected(1500, static_cast<std::byte>(i + 1));
    EXPECT_EQ(0, std::memcmp(expected.data(), &b_.memory[i * 2000], 700));
    EXPECT_EQ(0, std::memcmp(expected.data(), &b_.memory[i * 2000 + 1000], 800));
  }
}

TEST_P(QueuePairSim, UnsignaledSuccessIsSilent) {
  loop_.Receive(1, 1, {loop_.Local(1, 0, 8)});
  ASSERT_EQ(0, loop_.Send(0, Wr(1, IBV_WR_SEND, 0), {loop_.Local(0, 0, 8)}));
  loop_.Run();
  EXPECT_TRUE(a_.done.empty());
  EXPECT_EQ(1u, b_.done.size());
}

TEST_P(QueuePairSim, ReadsWritesAndAtomicsMixAndCompleteInOrder) {
  std::uint64_t value = 41;
  std::memcpy(&b_.memory[64], &value, 8);
  std::memset(&a_.memory[0], 7, 4000);
  ASSERT_EQ(0, loop_.Send(0, Remote(1, IBV_WR_RDMA_WRITE, b_.at(4096)), {loop_.Local(0, 0, 4000)}));
  ASSERT_EQ(0, loop_.Send(0, Atomic(2, IBV_WR_ATOMIC_FETCH_AND_ADD, b_.at(64), 7),
                          {loop_.Local(0, 8000, 8)}));
  ASSERT_EQ(0, loop_.Send(0, Remote(3, IBV_WR_RDMA_READ, b_.at(4096)),
                          {loop_.Local(0, 10000, 1000), loop_.Local(0, 12000, 3000)}));
  ASSERT_EQ(0, loop_.Send(0, Atomic(4, IBV_WR_ATOMIC_CMP_AND_SWP, b_.at(64), 48, 5),
                          {loop_.Local(0, 8008, 8)}));
  ASSERT_EQ(0, loop_.Send(0, Atomic(5, IBV_WR_ATOMIC_CMP_AND_SWP, b_.at(64), 48, 6),
                          {loop_.Local(0, 8016, 8)}));
  loop_.Run();
  ASSERT_EQ(5u, a_.done.size());
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(i + 1, a_.done[i].wc.wr_id);
    EXPECT_EQ(IBV_WC_SUCCESS, a_.done[i].wc.status);
  }
  EXPECT_EQ(0, std::memcmp(&a_.memory[0], &a_.memory[10000], 1000));
  EXPECT_EQ(0, std::memcmp(&a_.memory[1000], &a_.memory[12000], 3000));
  const auto got = [&](std::size_t at) {
    std::memcpy(&value, &a_.memory[at], 8);
    return value;
  };
  EXPECT_EQ(41u, got(8000));
  EXPECT_EQ(48u, got(8008));
  EXPECT_EQ(5u, got(8016));  // the second swap found what the first had left
  EXPECT_TRUE(b_.done.empty());
}

TEST_P(QueuePairSim, ReadsWithTheSameIdGetTheirOwnBytes) {
  for (int i = 0; i < 40; ++i) {
    std::memset(&b_.memory[static_cast<std::size_t>(i) * 100], i + 1, 100);
    ASSERT_EQ(0,
              loop_.Send(0, Remote(5, IBV_WR_RDMA_READ, b_.at(static_cast<std::size_t>(i) * 100)),
                         {loop_.Local(0, static_cast<std::size_t>(i) * 100, 100)}));
  }
  loop_.Run();
  EXPECT_EQ(40u, a_.done.size());
  EXPECT_EQ(0, std::memcmp(a_.memory.data(), b_.memory.data(), 4000));
}

TEST_P(QueuePairSim, WriteWithImmediateReportsLengthAndImmediate) {
  loop_.Receive(1, 9, {});
  ibv_send_wr wr = Remote(1, IBV_WR_RDMA_WRITE_WITH_IMM, b_.at(0));
  wr.imm_data = htobe32(0x12345678);
  ASSERT_EQ(0, loop_.Send(0, wr, {loop_.Local(0, 0, 333)}));
  loop_.Run();
  ASSERT_EQ(1u, b_.done.size());
  EXPECT_EQ(IBV_WC_RECV_RDMA_WITH_IMM, b_.done[0].wc.opcode);
  EXPECT_EQ(333u, b_.done[0].wc.byte_len);
  EXPECT_EQ(htobe32(0x12345678), b_.done[0].wc.imm_data);
}

struct BadRemote {
  const char* name;
  std::uint64_t (*address)(const Loop::Side&);
  std::uint32_t length;
  bool wrong_key;
};

TEST_P(QueuePairSim, RemoteAccessOutsideARegionFailsOnBothSides) {
  const BadRemote cases[] = {
      {"behind the end", [](const Loop::Side& s) { return s.at(Loop::kMemory - 4); }, 8, false},
      {"before the start", [](const Loop::Side& s) { return s.at(0) - 1; }, 8, false},
      {"wraps around", [](const Loop::Side&) { return ~std::uint64_t{0} - 3; }, 8, false},
      {"unknown key", [](const Loop::Side& s) { return s.at(0); }, 8, true},
  };
  for (const BadRemote& one : cases) {
    for (const ibv_wr_opcode opcode : {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ}) {
      SCOPED_TRACE(one.name);
      Loop loop(GetParam());
      loop.Receive(1, 77, {loop.Local(1, 0, 8)});
      ibv_send_wr wr = Wr(1, opcode);
      wr.wr.rdma = {one.address(loop.sides[1]), loop.sides[1].key() + (one.wrong_key ? 1u : 0u)};
      ASSERT_EQ(0, loop.Send(0, wr, {loop.Local(0, 0, one.length)}));
      ASSERT_EQ(0, loop.Send(0, Wr(2, IBV_WR_SEND, 0), {loop.Local(0, 0, 8)}));
      loop.Run();
      ASSERT_EQ(2u, loop.sides[0].done.size());
      EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, loop.sides[0].done[0].wc.status);
      EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, loop.sides[0].done[1].wc.status);
      EXPECT_TRUE(loop.sides[0].qp->failed());
      EXPECT_TRUE(loop.sides[1].qp->failed());
      EXPECT_TRUE(loop.sides[1].qp->TakeAccessError());
      EXPECT_TRUE(loop.sides[1].done.empty());  // the receive is the owner's to flush
    }
  }
}

TEST_P(QueuePairSim, MisalignedAtomicIsAnInvalidRequest) {
  ASSERT_EQ(0, loop_.Send(0, Atomic(1, IBV_WR_ATOMIC_FETCH_AND_ADD, b_.at(4), 1),
                          {loop_.Local(0, 0, 8)}));
  loop_.Run();
  ASSERT_EQ(1u, a_.done.size());
  EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, a_.done[0].wc.status);
}

TEST_P(QueuePairSim, AMessageLongerThanTheReceiveFailsOnBothSides) {
  loop_.Receive(1, 9, {loop_.Local(1, 0, 10)});
  ASSERT_EQ(0, loop_.Send(0, Wr(1, IBV_WR_SEND), {loop_.Local(0, 0, 11)}));
  loop_.Run();
  ASSERT_EQ(1u, a_.done.size());
  ASSERT_EQ(1u, b_.done.size());
  EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, a_.done[0].wc.status);
  EXPECT_EQ(IBV_WC_LOC_LEN_ERR, b_.done[0].wc.status);
}

TEST_P(QueuePairSim, AWrongLocalKeyFailsAfterWhatWentBefore) {
  loop_.Receive(1, 9, {loop_.Local(1, 0, 10)});
  ASSERT_EQ(0, loop_.Send(0, Wr(1, IBV_WR_SEND), {loop_.Local(0, 0, 8)}));
  ibv_sge bad = loop_.Local(0, 0, 8);
  bad.lkey += 0x100;
  ASSERT_EQ(0, loop_.Send(0, Wr(2, IBV_WR_SEND), {bad}));
  ASSERT_EQ(0, loop_.Send(0, Wr(3, IBV_WR_SEND), {loop_.Local(0, 0, 8)}));
  loop_.Run();
  ASSERT_EQ(3u, a_.done.size());
  EXPECT_EQ(IBV_WC_SUCCESS, a_.done[0].wc.status);
  EXPECT_EQ(IBV_WC_LOC_PROT_ERR, a_.done[1].wc.status);
  EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, a_.done[2].wc.status);
}

TEST_P(QueuePairSim, AReceiveThatIsNotRegisteredFailsOnBothSides) {
  ibv_sge bad = loop_.Local(1, 0, 8);
  bad.lkey += 0x100;
  loop_.Receive(1, 9, {bad});
  ASSERT_EQ(0, loop_.Send(0, Wr(1, IBV_WR_SEND), {loop_.Local(0, 0, 8)}));
  loop_.Run();
  ASSERT_EQ(1u, a_.done.size());
  ASSERT_EQ(1u, b_.done.size());
  EXPECT_EQ(IBV_WC_REM_OP_ERR, a_.done[0].wc.status);
  EXPECT_EQ(IBV_WC_LOC_PROT_ERR, b_.done[0].wc.status);
}

TEST_P(QueuePairSim, WithoutAReceiveTheSenderWaitsAndGoesOnWhenOneComes) {
  for (std::uint64_t i = 0; i < 10; ++i) {
    std::memset(&a_.memory[i * 100], static_cast<int>(i + 1), 100);
    ASSERT_EQ(0, loop_.Send(0, Wr(i, IBV_WR_SEND), {loop_.Local(0, i * 100, 100)}));
  }
  loop_.Run();
  EXPECT_TRUE(a_.done.empty());
  loop_.AdvanceTo(loop_.now + Duration::Seconds(100));  // 7 means: for ever
  EXPECT_TRUE(a_.done.empty());
  for (std::uint64_t i = 0; i < 10; ++i) {
    loop_.Receive(1, i, {loop_.Local(1, i * 100, 100)});
    loop_.Run();
    ASSERT_EQ(i + 1, b_.done.size());
  }
  EXPECT_EQ(10u, a_.done.size());
  EXPECT_EQ(0, std::memcmp(a_.memory.data(), b_.memory.data(), 1000));
}

TEST_P(QueuePairSim, ASenderWaitsForReceivesInsteadOfSendingInVain) {
  constexpr std::uint32_t kBytes = 5000;
  loop_.Run();  // both know that there are no receives
  const std::uint64_t before = b_.qp->bytes_in();
  for (std::uint64_t i = 0; i < 12; ++i) {
    ASSERT_EQ(0, loop_.Send(0, Wr(i, IBV_WR_SEND), {loop_.Local(0, i * kBytes, kBytes)}));
  }
  loop_.Run();
  EXPECT_EQ(before, b_.qp->bytes_in());
  for (std::uint64_t i = 0; i < 12; ++i) {
    loop_.Receive(1, i, {loop_.Local(1, i * kBytes, kBytes)});
    // Every third time one is all there is; else several are there at once.
    if (i % 3 == 0) loop_.Run();
  }
  loop_.Run();
  EXPECT_EQ(12u, a_.done.size());
  EXPECT_EQ(12u, b_.done.size());
  EXPECT_EQ(before + 12 * (kHeaderBytes + kBytes), b_.qp->bytes_in());
}

TEST_P(QueuePairSim, ReadsPassWhileNothingElseMayBeSent) {
  loop_.Run();
  std::memset(b_.memory.data(), 9, 64);
  ASSERT_EQ(0, loop_.Send(0, Remote(1, IBV_WR_RDMA_READ, b_.at(0)), {loop_.Local(0, 100, 64)}));
  ASSERT_EQ(0, loop_.Send(0, Wr(2, IBV_WR_SEND), {loop_.Local(0, 0, 8)}));
  loop_.Run();
  ASSERT_EQ(1u, a_.done.size());
  EXPECT_EQ(std::byte{9}, a_.memory[163]);
  loop_.Receive(1, 7, {loop_.Local(1, 4096, 8)});
  loop_.Run();
  EXPECT_EQ(2u, a_.done.size());
  EXPECT_EQ(1u, b_.done.size());
}

TEST_P(QueuePairSim, FiniteReceiverNotReadyRetriesRunOutAfterAsManyTimers) {
  for (const std::uint8_t retries : {0, 1, 2, 6}) {
    SCOPED_TRACE(int{retries});
    auto parameters = Loop::DefaultParameters();
    parameters.requester.rnr_retries = retries;
    Loop loop(GetParam(), IBV_QPT_RC, parameters);
    const Loop::Side& sender = loop.sides[0];
    ASSERT_EQ(0, loop.Send(0, Wr(1, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
    loop.Run();
    for (int retry = 0; retry < retries; ++retry) {
      EXPECT_TRUE(sender.done.empty());
      ASSERT_EQ(loop.now + RnrDelay(parameters.rnr_timer), sender.qp->deadline());
      loop.AdvanceTo(sender.qp->deadline());
    }
    ASSERT_EQ(1u, sender.done.size());
    EXPECT_EQ(IBV_WC_RNR_RETRY_EXC_ERR, sender.done[0].wc.status);
  }
}

TEST_P(QueuePairSim, EachMessageHasReceiverNotReadyRetriesOfItsOwn) {
  constexpr std::uint64_t kMessages = 6;
  auto parameters = Loop::DefaultParameters();
  parameters.requester.rnr_retries = 2;
  Loop loop(GetParam(), IBV_QPT_RC, parameters, /*shared_receives=*/true);
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    ASSERT_EQ(0, loop.Send(0, Wr(i, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
  }
  loop.Run();
  for (std::uint64_t i = 0; i < kMessages; ++i) {
    // One timer runs out, and nearly another one.
    loop.AdvanceTo(loop.sides[0].qp->deadline());
    loop.AdvanceTo(loop.sides[0].qp->deadline() - Duration::Nanoseconds(1));
    loop.Receive(1, 100 + i, {loop.Local(1, 0, 8)});
    loop.Run();
    ASSERT_EQ(i + 1, loop.sides[0].done.size());
    EXPECT_EQ(IBV_WC_SUCCESS, loop.sides[0].done.back().wc.status);
  }
  EXPECT_EQ(kMessages, loop.sides[1].done.size());
}

// A peer that reads no answer, and sends again what it was not asked for again.
TEST_P(QueuePairSim, WhoSendsAgainWithoutReadingAnAnswerIsNotHeard) {
  const auto say = [&](std::uint32_t sequence) {
    FrameHeader header;
    header.sequence = sequence;
    std::array<std::byte, kHeaderBytes> bytes;
    EncodeHeader(header, bytes);
    EXPECT_TRUE(b_.qp->OnBytes(bytes, loop_.now));
  };
  for (std::uint32_t round = 0; round < 1000; ++round) {
    loop_.Receive(1, round, {loop_.Local(1, 0, 8)});
    say(static_cast<std::uint32_t>(b_.qp->completions().size()));
    say(static_cast<std::uint32_t>(b_.qp->completions().size()));
  }
  EXPECT_EQ(1u, b_.qp->completions().size());
  // Once "receiver ready" is out, the message counts.
  IoBatch batch;
  ASSERT_TRUE(b_.qp->FillOutput(&batch, true));
  b_.qp->OnWritten(batch.bytes);
  batch.Release();
  say(1);
  EXPECT_EQ(2u, b_.qp->completions().size());
}

TEST_P(QueuePairSim, APeerThatDiesIsReportedOnceAndTheRestIsFlushedInOrder) {
  for (std::uint64_t i = 0; i < 5; ++i) {
    ASSERT_EQ(0, loop_.Send(0, Wr(i, IBV_WR_SEND, 0), {loop_.Local(0, 0, 8)}));
  }
  loop_.Cut(0);
  loop_.AdvanceTo(a_.qp->deadline());
  ASSERT_EQ(5u, a_.done.size());
  for (std::uint64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(i, a_.done[i].wc.wr_id);
    EXPECT_EQ(i == 0 ? IBV_WC_RETRY_EXC_ERR : IBV_WC_WR_FLUSH_ERR, a_.done[i].wc.status);
  }
  EXPECT_TRUE(a_.qp->TakeSelfFailed());
}

TEST_P(QueuePairSim, AnIdlePeerThatDiesIsNoticedByTheNextRequest) {
  loop_.Cut(0);
  EXPECT_TRUE(a_.done.empty());
  EXPECT_TRUE(a_.qp->deadline().is_never());
  ASSERT_EQ(0, loop_.Send(0, Wr(1, IBV_WR_SEND), {loop_.Local(0, 0, 8)}));
  loop_.AdvanceTo(a_.qp->deadline());
  ASSERT_EQ(1u, a_.done.size());
  EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, a_.done[0].wc.status);
}

// A program that is done when it has so many answers leaves the rest unanswered, and its peer must
// hear of the answers first (ibv_srq_pingpong: 16 queue pairs, one of which ends before another's
// last answer is read).
TEST_P(QueuePairSim, ALostStreamIsNoFailureBeforeTheRetriesOfADeviceHadRunOut) {
  const Duration longest = QueuePair::kLongestLoss;
  const Duration brief = Duration::Milliseconds(3);
  for (const auto& [timeout, wait] :
       {std::pair(brief, brief), std::pair(Duration::Seconds(1), longest),
        std::pair(Duration(), longest)}) {
    auto parameters = Loop::DefaultParameters();
    parameters.peer_timeout = timeout;
    Loop loop(GetParam(), IBV_QPT_RC, parameters);
    QueuePair& qp = *loop.sides[0].qp;
    ASSERT_EQ(0, loop.Send(0, Wr(1, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
    loop.Run();
    loop.Cut(0);
    ASSERT_EQ(0, loop.Send(0, Wr(2, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
    EXPECT_EQ(loop.now + wait, qp.deadline());
    loop.AdvanceTo(loop.now + wait - Duration::Nanoseconds(1));
    EXPECT_TRUE(loop.sides[0].done.empty());
    EXPECT_FALSE(qp.TakeSelfFailed());
    loop.AdvanceTo(qp.deadline());
    ASSERT_EQ(2u, loop.sides[0].done.size());
    EXPECT_EQ(IBV_WC_RETRY_EXC_ERR, loop.sides[0].done[0].wc.status);
    EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, loop.sides[0].done[1].wc.status);
  }
}

TEST_P(QueuePairSim, DeregisteredMemoryIsNeverTouchedAgain) {
  Region* extra = b_.regions->Add(1, &b_.memory[4096], b_.at(4096), 4096, Loop::kAllAccess);
  ibv_send_wr wr = Wr(1, IBV_WR_RDMA_WRITE);
  wr.wr.rdma = {b_.at(4096), extra->key.load()};
  ASSERT_TRUE(b_.regions->Remove(extra));
  std::memset(a_.memory.data(), 0xff, 4096);
  ASSERT_EQ(0, loop_.Send(0, wr, {loop_.Local(0, 0, 4096)}));
  loop_.Run();
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, a_.done.at(0).wc.status);
  EXPECT_EQ(std::byte{0}, b_.memory[4096]);
}

TEST_P(QueuePairSim, InlineDataMayBeReusedAtOnce) {
  loop_.Receive(1, 9, {loop_.Local(1, 0, 512)});
  std::memset(a_.memory.data(), 1, 512);
  ibv_send_wr wr = Wr(1, IBV_WR_SEND, IBV_SEND_SIGNALED | IBV_SEND_INLINE);
  ASSERT_EQ(0, loop_.Send(0, wr, {{a_.at(0), 512, 0}}));
  std::memset(a_.memory.data(), 2, 512);
  loop_.Run();
  EXPECT_EQ(std::byte{1}, b_.memory[511]);
  EXPECT_EQ(EINVAL, loop_.Send(0, wr, {{a_.at(0), 513, 0}}));
}

TEST_P(QueuePairSim, AFullQueueRefusesWithEnomem) {
  for (int i = 0; i < 64; ++i) {
    ASSERT_EQ(0, loop_.Send(0, Wr(1, IBV_WR_SEND), {loop_.Local(0, 0, 8)}));
  }
  EXPECT_EQ(ENOMEM, loop_.Send(0, Wr(1, IBV_WR_SEND), {loop_.Local(0, 0, 8)}));
}

TEST_P(QueuePairSim, ReadsBeyondTheLimitWaitForEarlierOnes) {
  auto parameters = Loop::DefaultParameters();
  parameters.requester.max_reads = 1;
  Loop loop(GetParam(), IBV_QPT_RC, parameters);
  for (std::uint64_t i = 0; i < 20; ++i) {
    ibv_send_wr wr = Wr(i, IBV_WR_RDMA_READ);
    wr.wr.rdma = {loop.sides[1].at(i * 8), loop.sides[1].key()};
    ASSERT_EQ(0, loop.Send(0, wr, {loop.Local(0, i * 8, 8)}));
  }
  loop.Run();
  EXPECT_EQ(20u, loop.sides[0].done.size());
}

TEST_P(QueuePairSim, BothDirectionsAtOnceKeepTheirOrder) {
  for (std::uint64_t i = 0; i < 30; ++i) {
    for (int side = 0; side < 2; ++side) {
      loop_.Receive(side, i, {loop_.Local(side, 500000 + i * 5000, 5000)});
      ASSERT_EQ(0, loop_.Send(side, Wr(i, IBV_WR_SEND), {loop_.Local(side, i * 5000, 5000)}));
    }
  }
  loop_.Run();
  for (const Loop::Side& side : loop_.sides) {
    ASSERT_EQ(60u, side.done.size());
    for (const Completion& done : side.done) EXPECT_EQ(IBV_WC_SUCCESS, done.wc.status);
  }
}

TEST_P(QueuePairSim, UnreliableMessagesWithoutAReceiveAreDropped) {
  Loop loop(GetParam(), IBV_QPT_UC);
  ASSERT_EQ(0, loop.Send(0, Wr(1, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
  loop.Run();
  loop.Receive(1, 9, {loop.Local(1, 0, 8)});
  ASSERT_EQ(0, loop.Send(0, Wr(2, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
  loop.Run();
  EXPECT_EQ(2u, loop.sides[0].done.size());
  EXPECT_EQ(1u, loop.sides[1].done.size());
  ibv_send_wr read = Wr(3, IBV_WR_RDMA_READ);
  EXPECT_EQ(EINVAL, loop.Send(0, read, {loop.Local(0, 0, 8)}));
}

TEST_P(QueuePairSim, AnUnreliableRequestThatIsWrongHereStopsSendingUntilResumed) {
  Loop loop(GetParam(), IBV_QPT_UC);
  for (std::uint64_t i = 0; i < 3; ++i) loop.Receive(1, 20 + i, {loop.Local(1, 0, 8)});
  ibv_sge wrong = loop.Local(0, 0, 8);
  wrong.lkey ^= 1;
  ASSERT_EQ(0, loop.Send(0, Wr(1, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
  ASSERT_EQ(0, loop.Send(0, Wr(2, IBV_WR_SEND), {wrong}));
  ASSERT_EQ(0, loop.Send(0, Wr(3, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
  loop.Run();
  QueuePair& qp = *loop.sides[0].qp;
  EXPECT_TRUE(qp.TakeSendFailed());
  EXPECT_FALSE(qp.TakeSendFailed());
  EXPECT_FALSE(qp.TakeSelfFailed());
  ASSERT_EQ(0, loop.Send(0, Wr(4, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
  loop.Run();
  std::vector<ibv_wc_status> ended;
  for (const Completion& done : loop.sides[0].done) ended.push_back(done.wc.status);
  EXPECT_EQ(
      (std::vector{IBV_WC_SUCCESS, IBV_WC_LOC_PROT_ERR, IBV_WC_WR_FLUSH_ERR, IBV_WC_WR_FLUSH_ERR}),
      ended);
  qp.ResumeSending();
  ASSERT_EQ(0, loop.Send(0, Wr(5, IBV_WR_SEND), {loop.Local(0, 0, 8)}));
  loop.Run();
  EXPECT_EQ(IBV_WC_SUCCESS, loop.sides[0].done.back().wc.status);
  EXPECT_EQ(2u, loop.sides[1].done.size());
}

TEST_P(QueuePairSim, GarbageEndsTheConnectionAndNothingElse) {
  std::mt19937 random(GetParam());
  for (int round = 0; round < 20; ++round) {
    Loop loop(GetParam());
    std::vector<std::byte> bytes(200);
    for (auto& byte : bytes) byte = static_cast<std::byte>(random());
    bytes[0] = static_cast<std::byte>(random() % 40);
    loop.sides[1].qp->OnBytes(bytes, loop.now);
    loop.Cut(1);
    EXPECT_TRUE(loop.sides[1].done.empty());
    EXPECT_EQ(std::vector<std::byte>(Loop::kMemory), loop.sides[1].memory);
  }
}

}  // namespace
}  // namespace oxmem::nex
