// What arrives, and what completions say about it.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

constexpr std::size_t kThere = 512 << 10;  // the second half of the buffer belongs to the other end
constexpr std::uint32_t kGrh = 40;

class VerbsData : public VerbsTest {
 protected:
  void Pair(ibv_qp_type type, QpOptions options = {}) {
    options.type = type;
    here_ = MakeQp(options);
    there_ = MakeQp(options, OtherCq());
    Connect(here_, there_, options);
  }
  ibv_cq* OtherCq() {
    if (other_cq_ == nullptr) other_cq_ = ibv_create_cq(context_, 256, nullptr, nullptr, 0);
    return other_cq_;
  }
  void TearDown() override {
    for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
    qps_.clear();
    if (other_cq_ != nullptr) {
      EXPECT_EQ(0, ibv_destroy_cq(other_cq_));
    }
    VerbsTest::TearDown();
  }
  void Fill(std::size_t offset, std::size_t size, int seed) {
    for (std::size_t i = 0; i < size; ++i) {
      buffer_[offset + i] = static_cast<std::byte>(static_cast<int>(i) * 31 + seed);
    }
  }
  bool Same(std::size_t a, std::size_t b, std::size_t size) const {
    return std::equal(buffer_.begin() + static_cast<std::ptrdiff_t>(a),
                      buffer_.begin() + static_cast<std::ptrdiff_t>(a + size),
                      buffer_.begin() + static_cast<std::ptrdiff_t>(b));
  }
  ibv_send_wr Remote(ibv_wr_opcode opcode, std::size_t offset) const {
    ibv_send_wr wr = Wr(7, opcode);
    wr.wr.rdma.remote_addr = At(offset);
    wr.wr.rdma.rkey = mr_->rkey;
    return wr;
  }
  std::uint64_t Word(std::size_t offset) const {
    std::uint64_t word;
    std::memcpy(&word, &buffer_[offset], sizeof word);
    return word;
  }
  void SetWord(std::size_t offset, std::uint64_t word) {
    std::memcpy(&buffer_[offset], &word, sizeof word);
  }
  ibv_wc One(ibv_cq* cq) { return Wait(cq, 1).front(); }

  ibv_qp* here_ = nullptr;
  ibv_qp* there_ = nullptr;
  ibv_cq* other_cq_ = nullptr;
};

TEST_F(VerbsData, ASendFillsTheReceiveAndBothComplete) {
  for (const ibv_qp_type type : {IBV_QPT_RC, IBV_QPT_UC}) {
    Pair(type);
    for (const std::uint32_t size : {0u, 1u, 1023u, 1024u, 1025u, 100000u}) {
      Fill(0, size, static_cast<int>(size));
      ASSERT_EQ(0, Receive(there_, 11, {Range(kThere, size)}));
      ASSERT_EQ(0, Send(here_, Wr(5, IBV_WR_SEND), {Range(0, size)}));
      const ibv_wc sent = One(cq_), got = One(other_cq_);
      EXPECT_EQ(IBV_WC_SUCCESS, sent.status);
      EXPECT_EQ(5u, sent.wr_id);
      EXPECT_EQ(IBV_WC_SEND, sent.opcode);
      EXPECT_EQ(here_->qp_num, sent.qp_num);
      EXPECT_EQ(IBV_WC_SUCCESS, got.status);
      EXPECT_EQ(11u, got.wr_id);
      EXPECT_EQ(IBV_WC_RECV, got.opcode);
      EXPECT_EQ(size, got.byte_len);
      EXPECT_EQ(there_->qp_num, got.qp_num);
      EXPECT_EQ(0u, got.wc_flags & IBV_WC_WITH_IMM);
      EXPECT_TRUE(Same(0, kThere, size)) << size;
    }
  }
}

TEST_F(VerbsData, ImmediatesComeWithSendsAndWrites) {
  Pair(IBV_QPT_RC);
  ASSERT_EQ(0, Receive(there_, 1, {Range(kThere, 64)}));
  ASSERT_EQ(0, Receive(there_, 2, {Range(kThere, 64)}));
  ibv_send_wr wr = Wr(1, IBV_WR_SEND_WITH_IMM);
  wr.imm_data = htonl(0x01020304);
  ASSERT_EQ(0, Send(here_, wr, {Range(0, 16)}));
  wr = Remote(IBV_WR_RDMA_WRITE_WITH_IMM, kThere + 4096);
  wr.imm_data = htonl(0xa0b0c0d0);
  Fill(0, 3000, 9);
  ASSERT_EQ(0, Send(here_, wr, {Range(0, 3000)}));
  const auto got = Wait(OtherCq(), 2);
  EXPECT_EQ(IBV_WC_RECV, got[0].opcode);
  EXPECT_EQ(htonl(0x01020304), got[0].imm_data);
  EXPECT_NE(0u, got[0].wc_flags & IBV_WC_WITH_IMM);
  EXPECT_EQ(IBV_WC_RECV_RDMA_WITH_IMM, got[1].opcode);
  EXPECT_EQ(2u, got[1].wr_id);
  EXPECT_EQ(htonl(0xa0b0c0d0), got[1].imm_data);
  EXPECT_EQ(3000u, got[1].byte_len);
  EXPECT_TRUE(Same(0, kThere + 4096, 3000));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
}

TEST_F(VerbsData, WritesAndReadsMoveBytesWithoutTheOtherEnd) {
  Pair(IBV_QPT_RC);
  for (const std::uint32_t size : {0u, 1u, 1024u, 4097u, 300000u}) {
    Fill(0, size, 3);
    ASSERT_EQ(0, Send(here_, Remote(IBV_WR_RDMA_WRITE, kThere), {Range(0, size)}));
    EXPECT_EQ(IBV_WC_RDMA_WRITE, One(cq_).opcode);
    EXPECT_TRUE(Same(0, kThere, size)) << size;
    Fill(kThere, size, 4);
    ASSERT_EQ(0, Send(here_, Remote(IBV_WR_RDMA_READ, kThere), {Range(0, size)}));
    const ibv_wc read = One(cq_);
    EXPECT_EQ(IBV_WC_SUCCESS, read.status);
    EXPECT_EQ(IBV_WC_RDMA_READ, read.opcode);
    EXPECT_TRUE(Same(0, kThere, size)) << size;
  }
  ibv_wc wc;
  EXPECT_EQ(0, ibv_poll_cq(OtherCq(), 1, &wc));
}

TEST_F(VerbsData, AtomicsReturnWhatWasThere) {
  Pair(IBV_QPT_RC);
  SetWord(kThere, 40);
  ibv_send_wr wr = Wr(1, IBV_WR_ATOMIC_FETCH_AND_ADD);
  wr.wr.atomic = {At(kThere), 2, 0, mr_->rkey};
  ASSERT_EQ(0, Send(here_, wr, {Range(0, 8)}));
  ibv_wc wc = One(cq_);
  EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  EXPECT_EQ(IBV_WC_FETCH_ADD, wc.opcode);
  EXPECT_EQ(40u, Word(0));
  EXPECT_EQ(42u, Word(kThere));
  wr.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
  wr.wr.atomic = {At(kThere), 42, 7, mr_->rkey};
  ASSERT_EQ(0, Send(here_, wr, {Range(0, 8)}));
  wc = One(cq_);
  EXPECT_EQ(IBV_WC_COMP_SWAP, wc.opcode);
  EXPECT_EQ(42u, Word(0));
  EXPECT_EQ(7u, Word(kThere));
  wr.wr.atomic = {At(kThere), 42, 8, mr_->rkey};  // not what is there any more
  ASSERT_EQ(0, Send(here_, wr, {Range(0, 8)}));
  EXPECT_EQ(IBV_WC_SUCCESS, One(cq_).status);
  EXPECT_EQ(7u, Word(0));
  EXPECT_EQ(7u, Word(kThere));
}

TEST_F(VerbsData, PiecesAreGatheredAndScattered) {
  Pair(IBV_QPT_RC);
  Fill(0, 3000, 1);
  ASSERT_EQ(0, Receive(there_, 1,
                       {Range(kThere, 5), Range(kThere + 4096, 2000), Range(kThere + 9000, 2000)}));
  ASSERT_EQ(0, Send(here_, Wr(1, IBV_WR_SEND), {Range(0, 1), Range(1, 1500), Range(1501, 1499)}));
  EXPECT_EQ(IBV_WC_SUCCESS, One(cq_).status);
  EXPECT_EQ(3000u, One(OtherCq()).byte_len);
  EXPECT_TRUE(Same(0, kThere, 5));
  EXPECT_TRUE(Same(5, kThere + 4096, 2000));
  EXPECT_TRUE(Same(2005, kThere + 9000, 995));
}

TEST_F(VerbsData, InlineBytesAreTakenAtOnce) {
  Pair(IBV_QPT_RC);
  Fill(0, 64, 1);
  Fill(4096, 64, 1);
  ASSERT_EQ(0, Receive(there_, 1, {Range(kThere, 64)}));
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.send_flags |= IBV_SEND_INLINE;
  ibv_sge bytes = Range(0, 64);
  bytes.lkey = 0;  // not looked at
  ASSERT_EQ(0, Send(here_, wr, {bytes}));
  std::fill_n(buffer_.begin(), 64, std::byte{0xee});
  EXPECT_EQ(IBV_WC_SUCCESS, One(cq_).status);
  EXPECT_EQ(64u, One(OtherCq()).byte_len);
  EXPECT_TRUE(Same(4096, kThere, 64));
}

TEST_F(VerbsData, OnlySignalledRequestsComplete) {
  Pair(IBV_QPT_RC);
  for (int i = 0; i < 8; ++i) {
    ibv_send_wr wr = Remote(IBV_WR_RDMA_WRITE, kThere);
    wr.wr_id = static_cast<std::uint64_t>(i);
    wr.send_flags = i == 7 ? IBV_SEND_SIGNALED : 0;
    ASSERT_EQ(0, Send(here_, wr, {Range(0, 8)}));
  }
  EXPECT_EQ(7u, One(cq_).wr_id);
  ibv_wc wc;
  EXPECT_EQ(0, ibv_poll_cq(cq_, 1, &wc));
}

TEST_F(VerbsData, CompletionsComeInTheOrderOfRequests) {
  Pair(IBV_QPT_RC);
  for (std::uint64_t i = 0; i < 30; ++i) {
    const auto opcode = i % 3 == 0   ? IBV_WR_RDMA_READ
                        : i % 3 == 1 ? IBV_WR_RDMA_WRITE
                                     : IBV_WR_SEND;
    if (opcode == IBV_WR_SEND) {
      ASSERT_EQ(0, Receive(there_, i, {Range(kThere, 4096)}));
    }
    ibv_send_wr wr = Remote(opcode, kThere + 8192);
    wr.wr_id = i;
    ASSERT_EQ(0, Send(here_, wr, {Range(i * 4096, 4096)}));
  }
  const auto sent = Wait(cq_, 30);
  for (std::uint64_t i = 0; i < sent.size(); ++i) EXPECT_EQ(i, sent[i].wr_id);
  const auto got = Wait(OtherCq(), 10);
  for (std::uint64_t i = 0; i < got.size(); ++i) EXPECT_EQ(3 * i + 2, got[i].wr_id);
}

TEST_F(VerbsData, ASharedQueueServesTwoQueuePairs) {
  ibv_srq_init_attr init{};
  init.attr = {32, 1, 0};
  ibv_srq* srq = ibv_create_srq(pd_, &init);
  ASSERT_NE(nullptr, srq);
  QpOptions plain, shared;
  shared.srq = srq;
  ibv_qp* senders[] = {MakeQp(plain), MakeQp(plain)};
  ibv_qp* receivers[] = {MakeQp(shared, OtherCq()), MakeQp(shared, OtherCq())};
  for (int i = 0; i < 2; ++i) Connect(senders[i], receivers[i], plain);
  for (std::uint64_t i = 0; i < 4; ++i) {
    ibv_sge sge = Range(kThere + i * 64, 64);
    ibv_recv_wr wr{i, nullptr, &sge, 1};
    ibv_recv_wr* bad = nullptr;
    ASSERT_EQ(0, ibv_post_srq_recv(srq, &wr, &bad));
  }
  for (std::uint64_t i = 0; i < 4; ++i) {
    ASSERT_EQ(0, Send(senders[i % 2], Wr(i, IBV_WR_SEND), {Range(0, 8)}));
    EXPECT_EQ(IBV_WC_SUCCESS, One(cq_).status);
    const ibv_wc got = One(OtherCq());
    EXPECT_EQ(i, got.wr_id);
    EXPECT_EQ(receivers[i % 2]->qp_num, got.qp_num);
  }
  for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
  qps_.clear();
  EXPECT_EQ(0, ibv_destroy_srq(srq));
}

TEST_F(VerbsData, DatagramsCarryAHeaderAndTheirSender) {
  Pair(IBV_QPT_UD);
  const QpAddress target = AddressOf(there_);
  ibv_ah_attr path{};
  path.port_num = 1;
  path.is_global = 1;
  path.grh.dgid = target.gid;
  path.grh.sgid_index = gid_index_;
  path.grh.hop_limit = 64;
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ASSERT_NE(nullptr, ah);
  constexpr std::uint64_t kCount = 40;
  for (std::uint64_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(0, Receive(there_, i, {Range(kThere + i * 2048, kGrh + 512)}));
  }
  for (std::uint64_t i = 0; i < kCount; ++i) {
    Fill(i * 512, 512, static_cast<int>(i));
    ibv_send_wr wr = Wr(i, IBV_WR_SEND_WITH_IMM);
    wr.imm_data = htonl(static_cast<std::uint32_t>(i));
    wr.wr.ud = {ah, there_->qp_num, kTestQueueKey};
    ASSERT_EQ(0, Send(here_, wr, {Range(i * 512, 512)}));
  }
  for (const ibv_wc& wc : Wait(cq_, kCount)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  const auto got = Wait(OtherCq(), kCount);
  for (std::uint64_t i = 0; i < got.size(); ++i) {
    // In the order they were sent: nothing is lost or overtaken within a host.
    EXPECT_EQ(i, got[i].wr_id);
    EXPECT_EQ(htonl(static_cast<std::uint32_t>(i)), got[i].imm_data);
    EXPECT_EQ(kGrh + 512, got[i].byte_len);
    EXPECT_EQ(here_->qp_num, got[i].src_qp);
    EXPECT_NE(0u, got[i].wc_flags & IBV_WC_GRH);
    EXPECT_TRUE(Same(i * 512, kThere + i * 2048 + kGrh, 512)) << i;
  }
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(VerbsData, AnEventComesForEachArming) {
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  ASSERT_NE(nullptr, channel);
  ibv_cq* cq = ibv_create_cq(context_, 16, this, channel, 0);
  ASSERT_NE(nullptr, cq);
  const QpOptions options;
  here_ = MakeQp(options);
  there_ = MakeQp(options, cq);
  Connect(here_, there_, options);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(0, ibv_req_notify_cq(cq, 0));
    ASSERT_EQ(0, Receive(there_, 1, {Range(kThere, 8)}));
    ASSERT_EQ(0, Send(here_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
    ibv_cq* ready = nullptr;
    void* who = nullptr;
    ASSERT_EQ(0, ibv_get_cq_event(channel, &ready, &who));
    EXPECT_EQ(cq, ready);
    EXPECT_EQ(this, who);
    ibv_ack_cq_events(cq, 1);
    EXPECT_EQ(1u, Wait(cq, 1).size());
    EXPECT_EQ(1u, Wait(cq_, 1).size());
  }
  for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
  qps_.clear();
  EXPECT_EQ(0, ibv_destroy_cq(cq));
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
}

}  // namespace
}  // namespace oxmem::nex
