// Every access check of both sides, and memory windows.
#include <errno.h>

#include <cstring>
#include <string>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

class Access : public VerbsTest {
 protected:
  void SetUp() override {
    VerbsTest::SetUp();
    other_pd_ = ibv_alloc_pd(context_);
    Fresh({});
  }
  void TearDown() override {
    DestroyQps();
    EXPECT_EQ(0, ibv_dealloc_pd(other_pd_));
    VerbsTest::TearDown();
  }
  void DestroyQps() {
    for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
    qps_.clear();
  }
  // A new connected pair: a queue pair is of no use after an error.
  void Fresh(const QpOptions& options) {
    DestroyQps();
    a_ = MakeQp(options);
    b_ = MakeQp(options);
    Connect(a_, b_, options);
  }
  static void ChangeState(ibv_qp* qp, ibv_qp_state state) {
    ibv_qp_attr attributes{};
    attributes.qp_state = state;
    ASSERT_EQ(0, ibv_modify_qp(qp, &attributes, IBV_QP_STATE));
  }
  ibv_send_wr Remote(ibv_wr_opcode opcode, std::uint64_t address, std::uint32_t key) const {
    ibv_send_wr wr = Wr(1, opcode);
    if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
      wr.wr.atomic = {address, 1, 0, key};
    } else {
      wr.wr.rdma = {address, key};
    }
    return wr;
  }
  // The status of one request of a_; nothing is there to be received.
  ibv_wc_status StatusOf(const ibv_send_wr& wr, const std::vector<ibv_sge>& sges) {
    EXPECT_EQ(0, Send(a_, wr, sges));
    const auto done = Wait(cq_, 1);
    return done.empty() ? IBV_WC_GENERAL_ERR : done[0].status;
  }
  ibv_wc_status BindStatus(ibv_mw* mw, const ibv_mw_bind_info& info) {
    ibv_send_wr wr = Wr(2, IBV_WR_BIND_MW);
    wr.bind_mw = {mw, ibv_inc_rkey(mw->rkey), info};
    const ibv_wc_status status = StatusOf(wr, {});
    if (status == IBV_WC_SUCCESS) mw->rkey = ibv_inc_rkey(mw->rkey);
    return status;
  }

  ibv_pd* other_pd_ = nullptr;
  ibv_qp* a_ = nullptr;
  ibv_qp* b_ = nullptr;
};

constexpr ibv_wr_opcode kOneSided[] = {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ,
                                       IBV_WR_ATOMIC_FETCH_AND_ADD};
int FlagOf(ibv_wr_opcode opcode) {
  if (opcode == IBV_WR_RDMA_WRITE) return IBV_ACCESS_REMOTE_WRITE;
  return opcode == IBV_WR_RDMA_READ ? IBV_ACCESS_REMOTE_READ : IBV_ACCESS_REMOTE_ATOMIC;
}

TEST_F(Access, ARegionGrantsWhatItsFlagsSayAndNothingElse) {
  for (const ibv_wr_opcode opcode : kOneSided) {
    for (const int flag :
         {IBV_ACCESS_REMOTE_WRITE, IBV_ACCESS_REMOTE_READ, IBV_ACCESS_REMOTE_ATOMIC}) {
      SCOPED_TRACE("opcode " + std::to_string(opcode) + ", flag " + std::to_string(flag));
      Fresh({});
      ibv_mr* mr = ibv_reg_mr(pd_, &buffer_[4096], 64, IBV_ACCESS_LOCAL_WRITE | flag);
      ASSERT_NE(nullptr, mr);
      const bool granted = flag == FlagOf(opcode);
      EXPECT_EQ(granted ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR,
                StatusOf(Remote(opcode, At(4096), mr->rkey), {Range(0, 8)}));
      if (!granted) {
        const auto event = NextEvent();
        ASSERT_TRUE(event);
        EXPECT_EQ(IBV_EVENT_QP_ACCESS_ERR, event->event_type);
        EXPECT_EQ(b_, event->element.qp);
      }
      EXPECT_EQ(0, ibv_dereg_mr(mr));
    }
  }
}

TEST_F(Access, AQueuePairThatDoesNotAllowARequestCallsItInvalid) {
  for (const ibv_wr_opcode opcode : kOneSided) {
    SCOPED_TRACE(opcode);
    QpOptions options;
    options.access = kAllAccess & ~FlagOf(opcode);
    Fresh(options);
    EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR, StatusOf(Remote(opcode, At(4096), mr_->rkey), {Range(0, 8)}));
    const auto event = NextEvent();
    ASSERT_TRUE(event);
    EXPECT_EQ(IBV_EVENT_QP_REQ_ERR, event->event_type);
    EXPECT_EQ(b_, event->element.qp);
  }
}

TEST_F(Access, RemoteMemoryHasBoundsAKeyAndADomain) {
  ibv_mr* foreign = ibv_reg_mr(other_pd_, &buffer_[4096], 64, kAllAccess);
  ibv_mr* gone = ibv_reg_mr(pd_, &buffer_[4096], 64, kAllAccess);
  const std::uint32_t gone_key = gone->rkey;
  ASSERT_EQ(0, ibv_dereg_mr(gone));
  ibv_mr* mr = ibv_reg_mr(pd_, &buffer_[4096], 64, kAllAccess);
  const struct {
    const char* what;
    std::uint64_t address;
    std::uint32_t key;
  } cases[] = {
      {"one byte before", At(4095), mr->rkey},
      {"one byte behind", At(4096 + 57), mr->rkey},
      {"wraps", ~std::uint64_t{0} - 3, mr->rkey},
      {"wraps to the start", ~std::uint64_t{0} - 7, mr->rkey},
      {"another domain", At(4096), foreign->rkey},
      {"deregistered", At(4096), gone_key},
      {"the low byte of the key", At(4096), mr->rkey ^ 1},
      {"no key", At(4096), 0},
  };
  for (const auto& one : cases) {
    for (const ibv_wr_opcode opcode : {IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ}) {
      SCOPED_TRACE(one.what);
      Fresh({});
      EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
                StatusOf(Remote(opcode, one.address, one.key), {Range(0, 8)}));
      EXPECT_TRUE(NextEvent());
    }
  }
  // The last bytes, and none at all, wherever that is.
  Fresh({});
  EXPECT_EQ(IBV_WC_SUCCESS,
            StatusOf(Remote(IBV_WR_RDMA_WRITE, At(4096 + 56), mr->rkey), {Range(0, 8)}));
  EXPECT_EQ(0, ibv_dereg_mr(mr));
  EXPECT_EQ(0, ibv_dereg_mr(foreign));
}

TEST_F(Access, LocalMemoryIsCheckedBeforeAnythingIsSent) {
  ibv_mr* foreign = ibv_reg_mr(other_pd_, buffer_.data(), 64, kAllAccess);
  ibv_mr* small = ibv_reg_mr(pd_, buffer_.data(), 64, IBV_ACCESS_LOCAL_WRITE);
  ibv_mr* fixed = ibv_reg_mr(pd_, buffer_.data(), 64, 0);
  const auto sge = [this](std::size_t at, std::uint32_t length, const ibv_mr* mr) {
    return ibv_sge{At(at), length, mr->lkey};
  };
  const struct {
    const char* what;
    ibv_wr_opcode opcode;
    ibv_sge sge;
    bool good;
  } cases[] = {
      {"another domain", IBV_WR_SEND, sge(0, 8, foreign), false},
      {"one byte behind", IBV_WR_RDMA_WRITE, sge(57, 8, small), false},
      {"a length that wraps", IBV_WR_RDMA_WRITE, {~std::uint64_t{0} - 3, 8, small->lkey}, false},
      {"an unknown key", IBV_WR_RDMA_WRITE, {At(0), 8, small->lkey ^ 0x100}, false},
      {"a read into memory that is not to be written", IBV_WR_RDMA_READ, sge(0, 8, fixed), false},
      {"a write out of such memory", IBV_WR_RDMA_WRITE, sge(0, 8, fixed), true},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    Fresh({});
    EXPECT_EQ(one.good ? IBV_WC_SUCCESS : IBV_WC_LOC_PROT_ERR,
              StatusOf(Remote(one.opcode, At(8192), mr_->rkey), {one.sge}));
  }
  EXPECT_FALSE(HasEvent());
  for (ibv_mr* mr : {foreign, small, fixed}) EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F(Access, AReceiveIntoMemoryOfOthersFailsOnBothSides) {
  ibv_mr* foreign = ibv_reg_mr(other_pd_, &buffer_[4096], 64, kAllAccess);
  ibv_mr* fixed = ibv_reg_mr(pd_, &buffer_[4096], 64, 0);
  for (const ibv_mr* mr : {foreign, fixed}) {
    Fresh({});
    ASSERT_EQ(0, Receive(b_, 7, {{At(4096), 64, mr->lkey}}));
    ASSERT_EQ(0, Send(a_, Wr(1, IBV_WR_SEND), {Range(0, 8)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) {
      EXPECT_EQ(wc.wr_id == 7 ? IBV_WC_LOC_PROT_ERR : IBV_WC_REM_OP_ERR, wc.status);
    }
  }
  EXPECT_EQ(0, ibv_dereg_mr(foreign));
  EXPECT_EQ(0, ibv_dereg_mr(fixed));
}

TEST_F(Access, AWindowOpensPartOfARegionAndClosesItAgain) {
  for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
    SCOPED_TRACE(type);
    Fresh({});
    // Windows are bound by the side whose memory it is; here both are one process.
    ibv_mw* mw = ibv_alloc_mw(pd_, type);
    ASSERT_NE(nullptr, mw);
    std::swap(a_, b_);
    ASSERT_EQ(IBV_WC_SUCCESS, BindStatus(mw, {mr_, At(4096), 64, IBV_ACCESS_REMOTE_READ}));
    std::swap(a_, b_);
    const std::uint32_t key = mw->rkey;
    EXPECT_EQ(IBV_WC_SUCCESS, StatusOf(Remote(IBV_WR_RDMA_READ, At(4096), key), {Range(0, 64)}));
    if (type == IBV_MW_TYPE_2) {
      // The peer closes it with its last message.
      ASSERT_EQ(0, Receive(b_, 7, {Range(8192, 64)}));
      ibv_send_wr wr = Wr(1, IBV_WR_SEND_WITH_INV);
      wr.invalidate_rkey = key;
      ASSERT_EQ(0, Send(a_, wr, {Range(0, 8)}));
      for (const ibv_wc& wc : Wait(cq_, 2)) {
        EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
        if (wc.wr_id != 7) continue;
        EXPECT_NE(0u, wc.wc_flags & IBV_WC_WITH_INV);
        EXPECT_EQ(key, wc.invalidated_rkey);
      }
    } else {
      std::swap(a_, b_);
      ASSERT_EQ(IBV_WC_SUCCESS, BindStatus(mw, {mr_, At(0), 64, IBV_ACCESS_REMOTE_READ}));
      std::swap(a_, b_);
    }
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
              StatusOf(Remote(IBV_WR_RDMA_READ, At(4096), key), {Range(0, 8)}));
    EXPECT_TRUE(NextEvent());
    EXPECT_EQ(0, ibv_dealloc_mw(mw));
  }
}

TEST_F(Access, AWindowIsNoWiderThanItWasBound) {
  const struct {
    const char* what;
    ibv_wr_opcode opcode;
    std::size_t at;
  } cases[] = {{"another kind of access", IBV_WR_RDMA_WRITE, 4096},
               {"before it", IBV_WR_RDMA_READ, 4095},
               {"behind it", IBV_WR_RDMA_READ, 4096 + 57}};
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    Fresh({});
    ibv_mw* mw = ibv_alloc_mw(pd_, IBV_MW_TYPE_1);
    std::swap(a_, b_);
    ASSERT_EQ(IBV_WC_SUCCESS, BindStatus(mw, {mr_, At(4096), 64, IBV_ACCESS_REMOTE_READ}));
    std::swap(a_, b_);
    EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
              StatusOf(Remote(one.opcode, At(one.at), mw->rkey), {Range(0, 8)}));
    EXPECT_TRUE(NextEvent());
    EXPECT_EQ(0, ibv_dealloc_mw(mw));
  }
}

TEST_F(Access, AWindowOfTheSecondTypeServesItsQueuePairOnly) {
  QpOptions options;
  ibv_qp* c = MakeQp(options);
  ibv_qp* d = MakeQp(options);
  Connect(c, d, options);
  ibv_mw* mw = ibv_alloc_mw(pd_, IBV_MW_TYPE_2);
  std::swap(a_, b_);
  ASSERT_EQ(IBV_WC_SUCCESS, BindStatus(mw, {mr_, At(4096), 64, IBV_ACCESS_REMOTE_READ}));
  std::swap(a_, b_);
  EXPECT_EQ(IBV_WC_SUCCESS, StatusOf(Remote(IBV_WR_RDMA_READ, At(4096), mw->rkey), {Range(0, 8)}));
  ASSERT_EQ(0, Send(c, Remote(IBV_WR_RDMA_READ, At(4096), mw->rkey), {Range(0, 8)}));
  EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, Wait(cq_, 1).at(0).status);
  EXPECT_TRUE(NextEvent());
  EXPECT_EQ(0, ibv_dealloc_mw(mw));
}

TEST_F(Access, WhatCannotBeBoundIsABindError) {
  ibv_mr* closed = ibv_reg_mr(pd_, buffer_.data(), 64, IBV_ACCESS_LOCAL_WRITE);
  ibv_mr* fixed = ibv_reg_mr(pd_, buffer_.data(), 64, IBV_ACCESS_MW_BIND);
  const struct {
    const char* what;
    ibv_mw_bind_info info;
  } cases[] = {
      {"a region that is not to be bound", {closed, At(0), 64, IBV_ACCESS_REMOTE_READ}},
      {"writing what is not to be written", {fixed, At(0), 64, IBV_ACCESS_REMOTE_WRITE}},
      {"more than there is", {fixed, At(0), 65, IBV_ACCESS_REMOTE_READ}},
      {"a length that wraps", {fixed, At(32), ~std::uint64_t{0} - 8, IBV_ACCESS_REMOTE_READ}},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    Fresh({});
    ibv_mw* mw = ibv_alloc_mw(pd_, IBV_MW_TYPE_1);
    EXPECT_EQ(IBV_WC_MW_BIND_ERR, BindStatus(mw, one.info));
    EXPECT_EQ(0, ibv_dealloc_mw(mw));
  }
  // Keys that are not those of a window of this queue pair cannot be invalidated.
  Fresh({});
  ibv_send_wr wr = Wr(1, IBV_WR_LOCAL_INV);
  wr.invalidate_rkey = mr_->rkey;
  EXPECT_EQ(IBV_WC_MW_BIND_ERR, StatusOf(wr, {}));
  EXPECT_EQ(0, ibv_dereg_mr(closed));
  EXPECT_EQ(0, ibv_dereg_mr(fixed));
}

TEST_F(Access, ABindThatWaitedIsAnErrorWhenWhatItNamedIsGone) {
  for (const ibv_mw_type type : {IBV_MW_TYPE_1, IBV_MW_TYPE_2}) {
    for (const bool window_goes : {true, false}) {
      SCOPED_TRACE("type " + std::to_string(type) + (window_goes ? ", window" : ", region"));
      Fresh({});
      ibv_mr* mr = ibv_reg_mr(pd_, &buffer_[4096], 4096, kAllAccess);
      ibv_mw* mw = ibv_alloc_mw(pd_, type);
      ASSERT_TRUE(mr != nullptr && mw != nullptr);
      ChangeState(a_, IBV_QPS_SQD);
      ibv_send_wr wr = Wr(2, IBV_WR_BIND_MW);
      wr.bind_mw = {mw, ibv_inc_rkey(mw->rkey), {mr, At(4096), 64, IBV_ACCESS_REMOTE_READ}};
      ASSERT_EQ(0, Send(a_, wr, {}));
      ASSERT_EQ(0, window_goes ? ibv_dealloc_mw(mw) : ibv_dereg_mr(mr));
      // What is registered now has its place.
      ibv_mr* next = ibv_reg_mr(pd_, &buffer_[4096], 4096, kAllAccess);
      ASSERT_NE(nullptr, next);
      ChangeState(a_, IBV_QPS_RTS);
      EXPECT_EQ(IBV_WC_MW_BIND_ERR, Wait(cq_, 1).at(0).status);
      EXPECT_EQ(0, ibv_dereg_mr(next));
      EXPECT_EQ(0, window_goes ? ibv_dereg_mr(mr) : ibv_dealloc_mw(mw));
    }
  }
}

TEST_F(Access, AWindowIsBoundAndInvalidatedAtOnceWhereThePeerIsNotThere) {
  for (const ibv_qp_type type : {IBV_QPT_RC, IBV_QPT_UC}) {
    QpOptions options;
    options.type = type;
    options.access = IBV_ACCESS_REMOTE_WRITE;
    a_ = MakeQp(options);
    b_ = MakeQp(options);
    ToInit(a_, options);
    ToInit(b_, options);
    ToRts(a_, AddressOf(b_), options);
    ibv_mw* mw = ibv_alloc_mw(pd_, IBV_MW_TYPE_2);
    const std::uint32_t key = ibv_inc_rkey(mw->rkey);
    ibv_send_wr wr = Wr(2, IBV_WR_BIND_MW);
    wr.bind_mw = {mw, key, {mr_, At(4096), 64, IBV_ACCESS_REMOTE_WRITE}};
    ASSERT_EQ(0, Send(a_, wr, {}));
    ibv_wc done{};
    ASSERT_EQ(1, ibv_poll_cq(cq_, 1, &done));
    EXPECT_EQ(IBV_WC_SUCCESS, done.status);
    EXPECT_EQ(IBV_WC_BIND_MW, done.opcode);
    EXPECT_EQ(EBUSY, ibv_dereg_mr(mr_));
    wr = Wr(3, IBV_WR_LOCAL_INV);
    wr.invalidate_rkey = key;
    ASSERT_EQ(0, Send(a_, wr, {}));
    ASSERT_EQ(1, ibv_poll_cq(cq_, 1, &done));
    EXPECT_EQ(IBV_WC_SUCCESS, done.status);
    EXPECT_EQ(IBV_WC_LOCAL_INV, done.opcode);
    EXPECT_EQ(0, ibv_dealloc_mw(mw));
  }
}

TEST_F(Access, WithoutOutstandingReadsThereAreNone) {
  QpOptions options;
  options.reads = 0;
  Fresh(options);
  for (const ibv_wr_opcode opcode : {IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD}) {
    EXPECT_EQ(EINVAL, Send(a_, Remote(opcode, At(4096), mr_->rkey), {Range(0, 8)}));
  }
  EXPECT_EQ(IBV_WC_SUCCESS,
            StatusOf(Remote(IBV_WR_RDMA_WRITE, At(4096), mr_->rkey), {Range(0, 8)}));
}

// max_dest_rd_atomic 0, from the beginning or later.
TEST_F(Access, AQueuePairThatServesNoReadsCallsThemInvalid) {
  for (const ibv_wr_opcode opcode : {IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD}) {
    for (const bool later : {false, true}) {
      SCOPED_TRACE(opcode);
      DestroyQps();
      a_ = MakeQp({});
      b_ = MakeQp({});
      QpOptions none;
      none.reads = 0;
      ToInit(a_, {});
      ToInit(b_, {});
      ToRts(a_, AddressOf(b_), {});
      ToRts(b_, AddressOf(a_), later ? QpOptions() : none);
      EXPECT_EQ(IBV_WC_SUCCESS,
                StatusOf(Remote(IBV_WR_RDMA_WRITE, At(4096), mr_->rkey), {Range(0, 8)}));
      if (later) {
        EXPECT_EQ(IBV_WC_SUCCESS, StatusOf(Remote(opcode, At(4096), mr_->rkey), {Range(0, 8)}));
        ibv_qp_attr attributes{};
        attributes.qp_state = IBV_QPS_SQD;
        ASSERT_EQ(0, ibv_modify_qp(b_, &attributes, IBV_QP_STATE));
        ASSERT_EQ(0, ibv_modify_qp(b_, &attributes, IBV_QP_MAX_DEST_RD_ATOMIC));
      }
      EXPECT_EQ(IBV_WC_REM_INV_REQ_ERR,
                StatusOf(Remote(opcode, At(4096), mr_->rkey), {Range(0, 8)}));
      const auto event = NextEvent();
      ASSERT_TRUE(event);
      EXPECT_EQ(IBV_EVENT_QP_REQ_ERR, event->event_type);
    }
  }
}

TEST_F(Access, AnUnreliableSendClosesAWindowToo) {
  QpOptions options;
  options.type = IBV_QPT_UC;
  Fresh(options);
  ibv_mw* mw = ibv_alloc_mw(pd_, IBV_MW_TYPE_2);
  std::swap(a_, b_);
  ASSERT_EQ(IBV_WC_SUCCESS, BindStatus(mw, {mr_, At(4096), 64, IBV_ACCESS_REMOTE_WRITE}));
  std::swap(a_, b_);
  ASSERT_EQ(0, Receive(b_, 7, {Range(8192, 64)}));
  ibv_send_wr wr = Wr(1, IBV_WR_SEND_WITH_INV);
  wr.invalidate_rkey = mw->rkey;
  ASSERT_EQ(0, Send(a_, wr, {Range(0, 8)}));
  for (const ibv_wc& wc : Wait(cq_, 2)) {
    EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
    if (wc.wr_id != 7) continue;
    EXPECT_EQ(mw->rkey, wc.invalidated_rkey);
  }
  EXPECT_EQ(0, ibv_dealloc_mw(mw));
}

TEST_F(Access, RequestsThatMakeNoSenseAreRefusedAtOnce) {
  std::vector<ibv_sge> many(17, Range(0, 8));
  EXPECT_EQ(EINVAL, Send(a_, Wr(1, IBV_WR_SEND), many));
  EXPECT_EQ(EINVAL, Receive(a_, 1, many));
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.send_flags |= IBV_SEND_INLINE;
  EXPECT_EQ(EINVAL, Send(a_, wr, {Range(0, 513)}));
  wr.opcode = IBV_WR_RDMA_READ;
  EXPECT_EQ(EINVAL, Send(a_, wr, {Range(0, 8)}));
  wr = Wr(1, IBV_WR_SEND);
  wr.opcode = static_cast<ibv_wr_opcode>(77);
  EXPECT_EQ(EINVAL, Send(a_, wr, {Range(0, 8)}));
  wr = Wr(1, IBV_WR_SEND);
  wr.num_sge = 1;  // without a list
  ibv_send_wr* bad = nullptr;
  EXPECT_EQ(EINVAL, ibv_post_send(a_, &wr, &bad));
  EXPECT_EQ(&wr, bad);
  // It goes on as if nothing had been.
  EXPECT_EQ(IBV_WC_SUCCESS,
            StatusOf(Remote(IBV_WR_RDMA_WRITE, At(4096), mr_->rkey), {Range(0, 8)}));
}

}  // namespace
}  // namespace oxmem::nex
