// The ibv_wr_* builders: one thread at a time, and all of a list or nothing.
#include <errno.h>

#include <array>
#include <atomic>
#include <thread>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

constexpr std::uint32_t kDepth = 16;
constexpr std::size_t kThere = 512 << 10;

class Builders : public VerbsTest {
 protected:
  ibv_qp_ex* Make(ibv_qp_type type) {
    ibv_qp_init_attr_ex init{};
    init.qp_type = type;
    init.send_cq = init.recv_cq = cq_;
    init.cap = {kDepth, kDepth, 2, 2, 32};
    init.pd = pd_;
    init.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    init.send_ops_flags = IBV_QP_EX_WITH_SEND;
    if (type != IBV_QPT_UD) init.send_ops_flags |= IBV_QP_EX_WITH_RDMA_WRITE;
    ibv_qp* qp = ibv_create_qp_ex(context_, &init);
    EXPECT_NE(nullptr, qp);
    qps_.push_back(qp);
    return ibv_qp_to_qp_ex(qp);
  }
  ibv_qp_ex* MakeConnected() {
    ibv_qp_ex* builder = Make(IBV_QPT_RC);
    Connect(&builder->qp_base, MakeQp({}), {});
    return builder;
  }
  void AddWrite(ibv_qp_ex* builder, std::uint64_t id) {
    builder->wr_id = id;
    builder->wr_flags = IBV_SEND_SIGNALED;
    ibv_wr_rdma_write(builder, mr_->rkey, At(kThere));
    ibv_wr_set_sge(builder, mr_->lkey, At(0), 8);
  }
  // One request passes, and its completion is the first.
  void ExpectNothingPostedBefore(ibv_qp_ex* builder) {
    ibv_wr_start(builder);
    AddWrite(builder, 1000);
    EXPECT_EQ(0, ibv_wr_complete(builder));
    EXPECT_EQ(1000u, Wait(cq_, 1).at(0).wr_id);
  }
};

TEST_F(Builders, AreOnlyForWhatTheTypeCanSend) {
  struct {
    ibv_qp_type type;
    std::uint64_t operation;
    bool good;
  } const cases[] = {
      {IBV_QPT_UD, IBV_QP_EX_WITH_SEND_WITH_IMM, true},
      {IBV_QPT_UD, IBV_QP_EX_WITH_RDMA_READ, false},
      {IBV_QPT_UD, IBV_QP_EX_WITH_RDMA_WRITE, false},
      {IBV_QPT_UD, IBV_QP_EX_WITH_BIND_MW, false},
      {IBV_QPT_UC, IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM, true},
      {IBV_QPT_UC, IBV_QP_EX_WITH_RDMA_READ, false},
      {IBV_QPT_UC, IBV_QP_EX_WITH_ATOMIC_FETCH_AND_ADD, false},
      {IBV_QPT_RC, IBV_QP_EX_WITH_ATOMIC_CMP_AND_SWP, true},
      {IBV_QPT_RC, IBV_QP_EX_WITH_TSO, false},
      {IBV_QPT_XRC_SEND, IBV_QP_EX_WITH_RDMA_READ, true},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(testing::Message() << one.type << " " << one.operation);
    ibv_qp_init_attr_ex init{};
    init.qp_type = one.type;
    init.send_cq = init.recv_cq = cq_;
    init.cap = {kDepth, kDepth, 1, 1, 0};
    init.pd = pd_;
    init.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS;
    init.send_ops_flags = IBV_QP_EX_WITH_SEND | one.operation;
    ibv_qp* qp = ibv_create_qp_ex(context_, &init);
    EXPECT_EQ(one.good, qp != nullptr);
    EXPECT_TRUE(one.good || errno == EOPNOTSUPP);
    if (qp != nullptr) qps_.push_back(qp);
  }
}

TEST_F(Builders, AListForWhichThereIsNoRoomIsNotPostedAtAll) {
  ibv_qp_ex* builder = MakeConnected();
  ibv_wr_start(builder);
  for (std::uint64_t i = 0; i <= kDepth; ++i) AddWrite(builder, i);
  EXPECT_EQ(ENOMEM, ibv_wr_complete(builder));
  ExpectNothingPostedBefore(builder);
  ibv_wr_start(builder);
  for (std::uint64_t i = 0; i < kDepth; ++i) AddWrite(builder, i);
  EXPECT_EQ(0, ibv_wr_complete(builder));
  EXPECT_EQ(kDepth, Wait(cq_, kDepth).size());
}

TEST_F(Builders, OneWrongRequestEndsTheWholeList) {
  ibv_qp_ex* builder = MakeConnected();
  const std::array<ibv_sge, 3> more{Range(0, 8), Range(8, 8), Range(16, 8)};  // than were asked for
  ibv_wr_start(builder);
  AddWrite(builder, 1);
  AddWrite(builder, 2);
  ibv_wr_set_sge_list(builder, more.size(), more.data());
  EXPECT_EQ(EINVAL, ibv_wr_complete(builder));
  std::array<char, 600> text{};
  ibv_wr_start(builder);
  AddWrite(builder, 3);
  AddWrite(builder, 4);
  ibv_wr_set_inline_data(builder, text.data(), text.size());
  EXPECT_EQ(EINVAL, ibv_wr_complete(builder));
  ExpectNothingPostedBefore(builder);
}

TEST_F(Builders, OneWrongDatagramEndsTheWholeList) {
  QpOptions options;
  options.type = IBV_QPT_UD;
  ibv_qp_ex* builder = Make(IBV_QPT_UD);
  ToInit(&builder->qp_base, options);
  ToRts(&builder->qp_base, {}, options);
  ibv_ah_attr path{};
  path.port_num = 1;
  path.dlid = AddressOf(&builder->qp_base).lid;
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  const auto add = [&](std::uint64_t id, ibv_ah* to) {
    builder->wr_id = id;
    builder->wr_flags = IBV_SEND_SIGNALED;
    ibv_wr_send(builder);
    ibv_wr_set_ud_addr(builder, to, builder->qp_base.qp_num, kTestQueueKey);
    ibv_wr_set_sge(builder, mr_->lkey, At(0), 8);
  };
  ibv_wr_start(builder);
  add(1, ah);
  add(2, nullptr);
  EXPECT_EQ(EINVAL, ibv_wr_complete(builder));
  ibv_wr_start(builder);
  add(3, ah);
  EXPECT_EQ(0, ibv_wr_complete(builder));
  EXPECT_EQ(3u, Wait(cq_, 1).at(0).wr_id);
  EXPECT_EQ(0, ibv_destroy_ah(ah));
}

TEST_F(Builders, ACompleteWithoutAStartIsRefused) {
  ibv_qp_ex* builder = MakeConnected();
  EXPECT_EQ(EINVAL, ibv_wr_complete(builder));
  ibv_wr_abort(builder);
  ibv_wr_start(builder);
  AddWrite(builder, 1);
  ibv_wr_abort(builder);
  EXPECT_EQ(EINVAL, ibv_wr_complete(builder));
  ExpectNothingPostedBefore(builder);
}

// ibv_wr_post(3): from start to complete no other thread can enter.
TEST_F(Builders, ThreadsBuildOneAfterTheOther) {
  constexpr std::uint64_t kThreads = 3;
  constexpr std::uint64_t kLists = 3000;
  constexpr std::uint64_t kAhead = 100;  // lists; the completion queue has room for so many
  ibv_qp_ex* builder = MakeConnected();
  std::atomic<std::uint64_t> seen{0};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, builder, t, &seen] {
      for (std::uint64_t i = 0; i < kLists;) {
        if (i * kThreads > seen.load() + kAhead) continue;
        ibv_wr_start(builder);
        AddWrite(builder, t);
        AddWrite(builder, t + kThreads);
        const int error = ibv_wr_complete(builder);
        ASSERT_TRUE(error == 0 || error == ENOMEM) << error;
        if (error == 0) ++i;
      }
    });
  }
  std::uint64_t wrong = 0;
  for (std::uint64_t i = 0; i < kThreads * kLists; ++i) {
    const auto pair = Wait(cq_, 2);  // the lists of two threads never mix
    if (pair.size() != 2) break;
    if (pair[1].wr_id != pair[0].wr_id + kThreads) ++wrong;
    ++seen;
  }
  EXPECT_EQ(0u, wrong);
  seen = kThreads * kLists;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace oxmem::nex
