#ifndef TESTS_RDMA_NEX_VERBS_PROCESS_H_
#define TESTS_RDMA_NEX_VERBS_PROCESS_H_

#include <infiniband/verbs.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "transport/base/clock.h"

namespace oxmem::nex {

// nex0 as a program of the verbs library sees it, with a protection domain and memory. Everything
// it makes goes with it, in the order in which programs do it.
class VerbsProcess {
 public:
  static constexpr std::size_t kBytes = 1 << 20;
  static constexpr int kAccess = IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE |
                                 IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
  static constexpr std::uint32_t kDepth = 64;

  VerbsProcess() : memory_(kBytes) {
    int count = 0;
    ibv_device** list = ibv_get_device_list(&count);
    for (int i = 0; i < count; ++i) {
      if (std::strcmp(ibv_get_device_name(list[i]), "nex0") == 0) {
        context_ = ibv_open_device(list[i]);
      }
    }
    ibv_free_device_list(list);
    EXPECT_NE(context_, nullptr) << "nex0 is not there";
    pd_ = ibv_alloc_pd(context_);
    mr_ = ibv_reg_mr(pd_, memory_.data(), memory_.size(), kAccess);
    EXPECT_NE(mr_, nullptr);
  }
  ~VerbsProcess() {
    for (ibv_qp* qp : qps_) EXPECT_EQ(ibv_destroy_qp(qp), 0);
    for (ibv_srq* srq : srqs_) EXPECT_EQ(ibv_destroy_srq(srq), 0);
    for (ibv_cq* cq : cqs_) EXPECT_EQ(ibv_destroy_cq(cq), 0);
    EXPECT_EQ(ibv_dereg_mr(mr_), 0);
    EXPECT_EQ(ibv_dealloc_pd(pd_), 0);
    EXPECT_EQ(ibv_close_device(context_), 0);
  }
  VerbsProcess(const VerbsProcess&) = delete;
  VerbsProcess& operator=(const VerbsProcess&) = delete;

  ibv_context* context() const { return context_; }
  ibv_pd* pd() const { return pd_; }
  const ibv_mr* mr() const { return mr_; }
  std::byte* at(std::size_t offset) { return memory_.data() + offset; }

  ibv_cq* NewCq(ibv_comp_channel* channel = nullptr, int depth = 4096) {
    cqs_.push_back(ibv_create_cq(context_, depth, nullptr, channel, 0));
    EXPECT_NE(cqs_.back(), nullptr);
    return cqs_.back();
  }

  ibv_srq* NewSrq() {
    ibv_srq_init_attr init{};
    init.attr.max_wr = 4096;
    init.attr.max_sge = 1;
    srqs_.push_back(ibv_create_srq(pd_, &init));
    EXPECT_NE(srqs_.back(), nullptr);
    return srqs_.back();
  }

  ibv_qp* NewQp(ibv_qp_type type, ibv_cq* cq, ibv_srq* srq = nullptr) {
    ibv_qp_init_attr init{};
    init.send_cq = init.recv_cq = cq;
    init.srq = srq;
    init.qp_type = type;
    init.cap.max_send_wr = init.cap.max_recv_wr = kDepth;
    init.cap.max_send_sge = init.cap.max_recv_sge = 1;
    init.sq_sig_all = 1;
    ibv_qp* qp = ibv_create_qp(pd_, &init);
    EXPECT_NE(qp, nullptr);
    qps_.push_back(qp);
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_INIT;
    attr.port_num = 1;
    attr.qp_access_flags = kAccess;
    attr.qkey = 0x11;
    EXPECT_EQ(ibv_modify_qp(qp, &attr,
                            IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
                                (type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS)),
              0);
    return qp;
  }

  // Ready to send to the other number, of this process or another one of this host.
  void Connect(ibv_qp* qp, std::uint32_t peer) {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_RTR;
    attr.path_mtu = IBV_MTU_4096;
    attr.dest_qp_num = peer;
    attr.max_dest_rd_atomic = attr.max_rd_atomic = 4;
    attr.min_rnr_timer = 1;
    attr.timeout = 14;
    attr.retry_cnt = attr.rnr_retry = 7;
    attr.ah_attr = Path();
    EXPECT_EQ(ibv_modify_qp(qp, &attr,
                            IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
                                IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER),
              0);
    attr.qp_state = IBV_QPS_RTS;
    EXPECT_EQ(ibv_modify_qp(qp, &attr,
                            IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
                                IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC),
              0);
  }
  std::pair<ibv_qp*, ibv_qp*> Pair(ibv_cq* first, ibv_cq* second, ibv_srq* srq = nullptr) {
    ibv_qp* one = NewQp(IBV_QPT_RC, first);
    ibv_qp* other = NewQp(IBV_QPT_RC, second, srq);
    Connect(one, other->qp_num);
    Connect(other, one->qp_num);
    return {one, other};
  }

  ibv_ah_attr Path() const {
    ibv_ah_attr path{};
    path.port_num = 1;
    path.is_global = 1;
    EXPECT_EQ(ibv_query_gid(context_, 1, 0, &path.grh.dgid), 0);
    path.grh.hop_limit = 1;
    return path;
  }

  ibv_sge Piece(std::size_t offset, std::size_t length) {
    return {reinterpret_cast<std::uintptr_t>(at(offset)), static_cast<std::uint32_t>(length),
            mr_->lkey};
  }

  int PostReceive(ibv_qp* qp, std::uint64_t id, ibv_sge sge) {
    ibv_recv_wr wr{.wr_id = id, .next = nullptr, .sg_list = &sge, .num_sge = 1};
    ibv_recv_wr* bad = nullptr;
    return ibv_post_recv(qp, &wr, &bad);
  }
  int PostReceive(ibv_srq* srq, std::uint64_t id, ibv_sge sge) {
    ibv_recv_wr wr{.wr_id = id, .next = nullptr, .sg_list = &sge, .num_sge = 1};
    ibv_recv_wr* bad = nullptr;
    return ibv_post_srq_recv(srq, &wr, &bad);
  }
  // One request; `to` is where a one-sided one goes in this process's memory.
  int Post(ibv_qp* qp, ibv_wr_opcode opcode, std::uint64_t id, ibv_sge sge, std::size_t to = 0) {
    ibv_send_wr wr{};
    wr.wr_id = id;
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = opcode;
    if (opcode == IBV_WR_ATOMIC_FETCH_AND_ADD || opcode == IBV_WR_ATOMIC_CMP_AND_SWP) {
      wr.wr.atomic = {reinterpret_cast<std::uintptr_t>(at(to)), 1, 0, mr_->rkey};
    } else {
      wr.wr.rdma = {reinterpret_cast<std::uintptr_t>(at(to)), mr_->rkey};
    }
    ibv_send_wr* bad = nullptr;
    return ibv_post_send(qp, &wr, &bad);
  }

  // As many completions, in order; fewer, with a failure, if they do not come.
  static std::vector<ibv_wc> Collect(ibv_cq* cq, std::size_t count) {
    std::vector<ibv_wc> all(count);
    std::size_t done = 0;
    const Instant deadline = Now() + Duration::Seconds(60);
    while (done < count && Now() < deadline) {
      const int got = ibv_poll_cq(cq, static_cast<int>(count - done), &all[done]);
      EXPECT_GE(got, 0);
      done += static_cast<std::size_t>(std::max(got, 0));
    }
    EXPECT_EQ(done, count);
    all.resize(done);
    return all;
  }
  static void ExpectDone(ibv_cq* cq, std::size_t count) {
    for (const ibv_wc& wc : Collect(cq, count)) {
      EXPECT_EQ(wc.status, IBV_WC_SUCCESS) << ibv_wc_status_str(wc.status) << " of " << wc.wr_id;
    }
  }
  // Before the process goes, for what is destroyed by hand.
  void Destroy(ibv_qp* qp) {
    std::erase(qps_, qp);
    EXPECT_EQ(ibv_destroy_qp(qp), 0);
  }
  void Destroy(ibv_cq* cq) {
    std::erase(cqs_, cq);
    EXPECT_EQ(ibv_destroy_cq(cq), 0);
  }

 private:
  std::vector<std::byte> memory_;
  ibv_context* context_ = nullptr;
  ibv_pd* pd_ = nullptr;
  ibv_mr* mr_ = nullptr;
  std::vector<ibv_cq*> cqs_;
  std::vector<ibv_srq*> srqs_;
  std::vector<ibv_qp*> qps_;
};

}  // namespace oxmem::nex

#endif  // TESTS_RDMA_NEX_VERBS_PROCESS_H_
