// Unreliable datagrams: address handles with and without a GID, and what a completion tells.
#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kGrh = 40;

class Datagrams : public VerbsTest {
 protected:
  void SetUp() override {
    VerbsTest::SetUp();
    options_.type = IBV_QPT_UD;
    for (ibv_qp** qp : {&a_, &b_}) {
      *qp = MakeQp(options_);
      ToInit(*qp, options_);
      ToRts(*qp, {}, options_);
    }
  }
  ibv_ah_attr Path(bool global) const {
    const QpAddress address = AddressOf(b_);
    ibv_ah_attr path{};
    path.port_num = 1;
    path.dlid = global ? 0 : address.lid;
    path.is_global = global ? 1 : 0;
    if (global) path.grh.dgid = address.gid;
    return path;
  }
  static void ChangeState(ibv_qp* qp, ibv_qp_state state) {
    ibv_qp_attr attributes{};
    attributes.qp_state = state;
    ASSERT_EQ(0, ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
  }
  // To b_, without a completion unless it fails.
  int PostSilently(std::uint64_t id, ibv_ah* ah) {
    ibv_send_wr wr = Wr(id, IBV_WR_SEND);
    wr.send_flags = 0;
    wr.wr.ud = {ah, b_->qp_num, kTestQueueKey};
    return Send(a_, wr, {Range(0, 8)});
  }
  ibv_wc SendTo(ibv_qp* from, ibv_ah* ah, ibv_qp* to, std::size_t at) {
    EXPECT_EQ(0, Receive(to, 7, {Range(at, 256)}));
    ibv_send_wr wr = Wr(1, IBV_WR_SEND);
    wr.send_flags = 0;
    wr.wr.ud = {ah, to->qp_num, kTestQueueKey};
    std::memcpy(buffer_.data(), "hello", 6);
    EXPECT_EQ(0, Send(from, wr, {Range(0, 6)}));
    const auto done = Wait(cq_, 1);
    return done.empty() ? ibv_wc{} : done[0];
  }

  QpOptions options_;
  ibv_qp* a_ = nullptr;
  ibv_qp* b_ = nullptr;
};

// Sends what nobody gets, for each reason, again and again.
class LosingProgram : public Datagrams {
 public:
  void Run() {
    SetUp();
    ibv_ah_attr path = Path(true);
    ibv_ah* ah = ibv_create_ah(pd_, &path);
    for (;;) {
      ibv_send_wr wr = Wr(1, IBV_WR_SEND);
      wr.send_flags = 0;
      wr.wr.ud = {ah, b_->qp_num, kTestQueueKey};
      Send(a_, wr, {Range(0, 6)});  // no receive
      wr.wr.ud.remote_qkey = 5;
      Send(a_, wr, {Range(0, 6)});
      wr.wr.ud = {ah, b_->qp_num ^ 0x1000, kTestQueueKey};
      Send(a_, wr, {Range(0, 6)});
      SendTo(b_, ah, a_, 4096);  // arrives behind them, so that no socket is ever full
    }
  }

 private:
  void TestBody() override {}
};

TEST_F(Datagrams, ALidIsEnoughForAnAddressAndForTheReply) {
  ibv_ah_attr path = Path(false);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ASSERT_NE(nullptr, ah);
  std::memset(&buffer_[4096], 0xee, 256);
  ibv_wc wc = SendTo(a_, ah, b_, 4096);
  EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  EXPECT_EQ(kGrh + 6, wc.byte_len);  // the 40 bytes are reserved all the same
  EXPECT_EQ(0, std::memcmp(&buffer_[4096 + kGrh], "hello", 6));
  EXPECT_EQ(0u, wc.wc_flags & IBV_WC_GRH);
  EXPECT_EQ(a_->qp_num, wc.src_qp);
  EXPECT_EQ(AddressOf(a_).lid, wc.slid);
  // Without a GRH there is nothing to look at in the buffer.
  ibv_ah_attr back{};
  ASSERT_EQ(0, ibv_init_ah_from_wc(context_, 1, &wc, nullptr, &back));
  EXPECT_EQ(0, back.is_global);
  EXPECT_EQ(wc.slid, back.dlid);
  EXPECT_EQ(1, back.port_num);
  ibv_ah* reply = ibv_create_ah_from_wc(pd_, &wc, nullptr, 1);
  ASSERT_NE(nullptr, reply);
  wc = SendTo(b_, reply, a_, 8192);
  EXPECT_EQ(b_->qp_num, wc.src_qp);
  EXPECT_EQ(0, ibv_destroy_ah(reply));
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, AGidGivesAHeaderThatLeadsBack) {
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ASSERT_NE(nullptr, ah);
  ibv_wc wc = SendTo(a_, ah, b_, 4096);
  EXPECT_NE(0u, wc.wc_flags & IBV_WC_GRH);
  EXPECT_EQ(kGrh + 6, wc.byte_len);
  auto* grh = reinterpret_cast<ibv_grh*>(&buffer_[4096]);
  ibv_ah_attr back{};
  EXPECT_EQ(EINVAL, ibv_init_ah_from_wc(context_, 1, &wc, nullptr, &back));
  ASSERT_EQ(0, ibv_init_ah_from_wc(context_, 1, &wc, grh, &back));
  EXPECT_EQ(1, back.is_global);
  const ibv_gid own = AddressOf(a_).gid;
  EXPECT_EQ(0, std::memcmp(&own, &back.grh.dgid, sizeof own));
  ibv_ah* reply = ibv_create_ah_from_wc(pd_, &wc, grh, 1);
  ASSERT_NE(nullptr, reply);
  EXPECT_EQ(b_->qp_num, SendTo(b_, reply, a_, 8192).src_qp);
  EXPECT_EQ(0, ibv_destroy_ah(reply));
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, AnAddressWithoutEitherIsRefused) {
  ibv_ah_attr path = Path(false);
  path.dlid = 0;
  EXPECT_EQ(nullptr, ibv_create_ah(pd_, &path));
  EXPECT_EQ(EINVAL, errno);
  path = Path(false);
  path.port_num = 2;
  EXPECT_EQ(nullptr, ibv_create_ah(pd_, &path));
  path = Path(true);
  path.grh.sgid_index = 100;
  EXPECT_EQ(nullptr, ibv_create_ah(pd_, &path));
}

TEST_F(Datagrams, RequestsThatMakeNoSenseAreRefusedAtOnce) {
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  const auto expect_refused = [&](ibv_send_wr wr) {
    ibv_send_wr* bad = nullptr;
    EXPECT_EQ(EINVAL, ibv_post_send(a_, &wr, &bad));
    EXPECT_EQ(&wr, bad);
  };
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.wr.ud = {ah, b_->qp_num, kTestQueueKey};
  wr.num_sge = 1;  // without a list
  expect_refused(wr);
  wr.send_flags |= IBV_SEND_INLINE;
  expect_refused(wr);
  // The address of a write lies where a datagram has its address handle.
  for (const ibv_wr_opcode opcode : {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_LOCAL_INV}) {
    wr = Wr(1, opcode);
    wr.wr.rdma = {0x1000, 7};
    expect_refused(wr);
  }
  EXPECT_EQ(b_->qp_num, SendTo(a_, ah, b_, 4096).qp_num);
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, AnAddressHandleServesItsDomainUnderEveryName) {
  ibv_parent_domain_init_attr wanted{};
  wanted.pd = pd_;
  ibv_pd* parent = ibv_alloc_parent_domain(context_, &wanted);
  ASSERT_NE(nullptr, parent);
  ibv_pd* other = ibv_alloc_pd(context_);
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(parent, &path);
  EXPECT_EQ(b_->qp_num, SendTo(a_, ah, b_, 4096).qp_num);
  ibv_ah* foreign = ibv_create_ah(other, &path);
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.wr.ud = {foreign, b_->qp_num, kTestQueueKey};
  EXPECT_EQ(EINVAL, Send(a_, wr, {Range(0, 6)}));
  EXPECT_EQ(0, ibv_destroy_ah(foreign));
  EXPECT_EQ(0, ibv_destroy_ah(ah));
  EXPECT_EQ(0, ibv_dealloc_pd(other));
  EXPECT_EQ(0, ibv_dealloc_pd(parent));
}

TEST_F(Datagrams, ADatagramThatFitsNothingIsDropped) {
  ibv_ah_attr path = Path(false);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ibv_port_attr before, after;
  ASSERT_EQ(0, ibv_query_port(context_, 1, &before));
  ASSERT_EQ(0, Receive(b_, 1, {Range(4096, 256)}));
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.wr.ud = {ah, b_->qp_num, kTestQueueKey + 1};  // another queue key
  ASSERT_EQ(0, Send(a_, wr, {Range(0, 8)}));
  wr.wr.ud = {ah, b_->qp_num ^ 1, kTestQueueKey};  // another queue pair
  ASSERT_EQ(0, Send(a_, wr, {Range(0, 8)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  // Only what fits arrives, as the first.
  wr.send_flags = 0;
  wr.wr.ud = {ah, b_->qp_num, kTestQueueKey};
  ASSERT_EQ(0, Send(a_, wr, {Range(0, 9)}));
  const auto done = Wait(cq_, 1);
  ASSERT_EQ(1u, done.size());
  EXPECT_EQ(kGrh + 9, done[0].byte_len);
  ASSERT_EQ(0, ibv_query_port(context_, 1, &after));
  EXPECT_EQ(before.qkey_viol_cntr + 1, after.qkey_viol_cntr);
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, MemoryThatTheProgramGaveBackEndsTheSend) {
  void* memory =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  ASSERT_NE(MAP_FAILED, memory);
  ibv_mr* region = ibv_reg_mr(pd_, memory, 4096, 0);
  ASSERT_NE(nullptr, region);
  ASSERT_EQ(0, munmap(memory, 4096));
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.wr.ud = {ah, b_->qp_num, kTestQueueKey};
  ASSERT_EQ(0, Send(a_, wr, {{reinterpret_cast<std::uint64_t>(memory), 4096, region->lkey}}));
  const auto done = Wait(cq_, 1);
  ASSERT_EQ(1u, done.size());
  EXPECT_EQ(IBV_WC_LOC_PROT_ERR, done[0].status);
  EXPECT_EQ(0, ibv_dereg_mr(region));
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, MemoryThatTheProgramGaveBackEndsTheReceiveAndNobodyElse) {
  void* memory =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0);
  ASSERT_NE(MAP_FAILED, memory);
  ibv_mr* region = ibv_reg_mr(pd_, memory, 4096, IBV_ACCESS_LOCAL_WRITE);
  ASSERT_NE(nullptr, region);
  const ibv_sge all{reinterpret_cast<std::uint64_t>(memory), 4096, region->lkey};
  ASSERT_EQ(0, Receive(b_, 7, {all}));
  ASSERT_EQ(0, munmap(memory, 4096));
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.send_flags = 0;
  wr.wr.ud = {ah, b_->qp_num, kTestQueueKey};
  ASSERT_EQ(0, Send(a_, wr, {Range(0, 6)}));
  const auto done = Wait(cq_, 1);
  ASSERT_EQ(1u, done.size());
  EXPECT_EQ(IBV_WC_LOC_PROT_ERR, done[0].status);
  EXPECT_EQ(0, ibv_dereg_mr(region));
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, ALidConnectsReliableAndUnreliableQueuePairsToo) {
  for (const ibv_qp_type type : {IBV_QPT_RC, IBV_QPT_UC}) {
    QpOptions options;
    options.type = type;
    options.by_lid = true;
    ibv_qp* a = MakeQp(options);
    ibv_qp* b = MakeQp(options);
    Connect(a, b, options);
    ASSERT_EQ(0, Receive(b, 3, {Range(4096, 8)}));
    ibv_send_wr wr = Wr(4, IBV_WR_SEND);
    ASSERT_EQ(0, Send(a, wr, {Range(0, 8)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  }
}

TEST_F(Datagrams, ABurstForWhichThereAreReceivesArrivesWholeAndInOrder) {
  QpOptions deep = options_;
  deep.depth = 256;
  ibv_qp* to = MakeQp(deep);
  ToInit(to, deep);
  ToRts(to, {}, deep);
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  for (std::uint32_t i = 0; i < deep.depth; ++i) {
    ASSERT_EQ(0, Receive(to, i, {Range(4096 + i * 320, 320)}));
  }
  for (std::uint32_t i = 0; i < deep.depth; ++i) {
    ibv_send_wr wr = Wr(1000, IBV_WR_SEND_WITH_IMM);
    wr.send_flags = 0;
    wr.imm_data = htobe32(i);
    wr.wr.ud = {ah, to->qp_num, kTestQueueKey};
    ASSERT_EQ(0, Send(a_, wr, {Range(0, 256)}));
  }
  const auto done = Wait(cq_, deep.depth);
  ASSERT_EQ(deep.depth, done.size());
  for (std::uint32_t i = 0; i < deep.depth; ++i) {
    EXPECT_EQ(IBV_WC_SUCCESS, done[i].status);
    EXPECT_EQ(i, done[i].wr_id);
    EXPECT_EQ(htobe32(i), done[i].imm_data);
  }
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, NothingOfThemIsUnderWayInAQueueThatIsToBeDrained) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_SQD;
  attributes.en_sqd_async_notify = 1;
  ASSERT_EQ(0, ibv_modify_qp(a_, &attributes, IBV_QP_STATE | IBV_QP_EN_SQD_ASYNC_NOTIFY));
  ASSERT_TRUE(HasEvent());
  const auto event = NextEvent();
  ASSERT_TRUE(event);
  EXPECT_EQ(IBV_EVENT_SQ_DRAINED, event->event_type);
  EXPECT_EQ(a_, event->element.qp);
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ASSERT_EQ(0, PostSilently(1, ah));
  ibv_qp_init_attr init{};
  ASSERT_EQ(0, ibv_query_qp(a_, &attributes, IBV_QP_STATE, &init));
  EXPECT_EQ(0, attributes.sq_draining);
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, ADrainedQueueSendsLaterWhatWasPosted) {
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ChangeState(a_, IBV_QPS_SQD);
  std::memcpy(&buffer_[512], "plain", 6);
  std::array<char, 8> copied{"in line"};
  std::array<ibv_sge, 2> sges{Range(512, 3), Range(515, 3)};
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.wr.ud = {ah, b_->qp_num, kTestQueueKey};
  wr.sg_list = sges.data();
  wr.num_sge = 2;
  ibv_send_wr* bad = nullptr;
  ASSERT_EQ(0, ibv_post_send(a_, &wr, &bad));
  const auto at = reinterpret_cast<std::uintptr_t>(copied.data());
  sges = {ibv_sge{at, 3, 0}, ibv_sge{at + 3, 5, 0}};
  wr.wr_id = 2;
  wr.send_flags |= IBV_SEND_INLINE;
  ASSERT_EQ(0, ibv_post_send(a_, &wr, &bad));
  wr.wr_id = 3;
  wr.num_sge = 0;
  ASSERT_EQ(0, ibv_post_send(a_, &wr, &bad));
  // All but what is registered may be used again.
  copied.fill('x');
  sges.fill({});
  wr = {};
  ASSERT_EQ(0, ibv_destroy_ah(ah));
  // One that is sent now, the same way, is the first.
  ah = ibv_create_ah(pd_, &path);
  EXPECT_EQ(b_->qp_num, SendTo(b_, ah, b_, 8192).src_qp);
  EXPECT_EQ(0, ibv_destroy_ah(ah));
  for (std::uint64_t i = 0; i < 3; ++i) {
    ASSERT_EQ(0, Receive(b_, 101 + i, {Range(4096 + i * 256, 256)}));
  }
  ChangeState(a_, IBV_QPS_RTS);
  std::uint64_t sent = 1, received = 101;
  for (const ibv_wc& wc : Wait(cq_, 6)) {
    EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
    EXPECT_EQ(wc.opcode == IBV_WC_RECV ? received++ : sent++, wc.wr_id);
    if (wc.opcode != IBV_WC_RECV) continue;
    EXPECT_EQ(a_->qp_num, wc.src_qp);
    constexpr std::array<std::uint32_t, 3> kBytes{6, 8, 0};
    EXPECT_EQ(kGrh + kBytes[wc.wr_id - 101], wc.byte_len);
  }
  EXPECT_STREQ("plain", reinterpret_cast<const char*>(&buffer_[4096 + kGrh]));
  EXPECT_STREQ("in line", reinterpret_cast<const char*>(&buffer_[4096 + 256 + kGrh]));
}

TEST_F(Datagrams, WhatADrainedQueueHoldsIsFlushedByAnErrorAndForgottenByAReset) {
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  for (const ibv_qp_state to : {IBV_QPS_ERR, IBV_QPS_RESET}) {
    ChangeState(a_, IBV_QPS_SQD);
    for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(0, PostSilently(i, ah));
    ChangeState(a_, to);
    if (to == IBV_QPS_ERR) {
      const auto done = Wait(cq_, 3);
      ASSERT_EQ(3u, done.size());
      for (std::uint64_t i = 0; i < 3; ++i) {
        EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, done[i].status);
        EXPECT_EQ(i, done[i].wr_id);
      }
      ChangeState(a_, IBV_QPS_RESET);
    }
    // What comes next is the first that arrives.
    ASSERT_EQ(0, Receive(b_, 7, {Range(4096, 256)}));
    ToInit(a_, options_);
    ToRts(a_, {}, options_);
    EXPECT_EQ(kGrh + 6, SendTo(a_, ah, b_, 4096).byte_len);
    ibv_wc wc;
    EXPECT_EQ(0, ibv_poll_cq(cq_, 1, &wc));
  }
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Datagrams, WhatADrainedQueueHoldsHasItsPlaceUntilItIsSent) {
  ibv_ah_attr path = Path(true);
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ChangeState(a_, IBV_QPS_SQD);
  for (std::uint32_t i = 0; i < options_.depth; ++i) ASSERT_EQ(0, PostSilently(i, ah));
  EXPECT_EQ(ENOMEM, PostSilently(0, ah));
  ChangeState(a_, IBV_QPS_RTS);
  EXPECT_EQ(0, PostSilently(0, ah));
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

// In a process of its own, which has NEX_DEBUG: how many were lost and why is said, once a second.
TEST(DatagramLosses, AreSaidWithTheirReason) {
  int ends[2];
  ASSERT_EQ(0, pipe(ends));
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // it loses datagrams until it is killed
    setenv("NEX_DEBUG", "1", 1);
    dup2(ends[1], STDERR_FILENO);
    LosingProgram().Run();
    _exit(0);
  }
  close(ends[1]);
  FILE* said = fdopen(ends[0], "r");
  std::string all;
  bool complete = false;
  char line[512];
  while (!complete && std::fgets(line, sizeof line, said) != nullptr) {
    all += line;
    unsigned without = 0, key = 0, nobody = 0, malformed = 0, full = 1;
    const char* counts = std::strstr(line, "datagrams lost so far: ");
    if (counts == nullptr) continue;
    const int read = std::sscanf(counts,
                                 "datagrams lost so far: %u without a receive, %u with a wrong "
                                 "key, %u to no queue pair, %u malformed, %u in a full socket",
                                 &without, &key, &nobody, &malformed, &full);
    complete = read == 5 && without > 0 && key > 0 && nobody > 0 && malformed == 0 && full == 0;
  }
  EXPECT_TRUE(complete) << all;
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  std::fclose(said);
}

}  // namespace
}  // namespace oxmem::nex
