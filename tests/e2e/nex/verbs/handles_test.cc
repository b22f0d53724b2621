// Null, stale and busy handles: the errno of the manual and one clear line, never a crash.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

class Handles : public VerbsTest {
 protected:
  // `action` is refused with EINVAL; the first time it says why in one line that names the verb.
  template <typename Action>
  static void Refused(const std::string& verb, Action action) {
    SCOPED_TRACE(verb);
    const auto check = [&] { EXPECT_EQ(EINVAL, action()); };
    const std::string said = ErrorsOf(check);
    EXPECT_EQ(1, std::count(said.begin(), said.end(), '\n')) << said;
    EXPECT_EQ(0u, said.find("nex: " + verb)) << said;
    EXPECT_EQ("", ErrorsOf(check));
  }
  // The errno of a verb that returns a handle or -1.
  template <typename Result>
  static int ErrnoOf(Result result) {
    return result == Result{} || static_cast<std::intptr_t>(-1) == (std::intptr_t)result ? errno
                                                                                         : 0;
  }
};

TEST_F(Handles, DestroyingTwiceIsRefused) {
  ibv_pd* pd = ibv_alloc_pd(context_);
  ASSERT_EQ(0, ibv_dealloc_pd(pd));
  Refused("ibv_dealloc_pd", [&] { return ibv_dealloc_pd(pd); });
  ibv_mr* mr = ibv_reg_mr(pd_, buffer_.data(), 64, 0);
  ASSERT_EQ(0, ibv_dereg_mr(mr));
  Refused("ibv_dereg_mr", [&] { return ibv_dereg_mr(mr); });
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  ASSERT_EQ(0, ibv_destroy_comp_channel(channel));
  Refused("ibv_destroy_comp_channel", [&] { return ibv_destroy_comp_channel(channel); });
  ibv_cq* cq = ibv_create_cq(context_, 4, nullptr, nullptr, 0);
  ASSERT_EQ(0, ibv_destroy_cq(cq));
  Refused("ibv_destroy_cq", [&] { return ibv_destroy_cq(cq); });
  ibv_srq_init_attr wanted{nullptr, {4, 1, 0}};
  ibv_srq* srq = ibv_create_srq(pd_, &wanted);
  ASSERT_EQ(0, ibv_destroy_srq(srq));
  Refused("ibv_destroy_srq", [&] { return ibv_destroy_srq(srq); });
  ibv_mw* mw = ibv_alloc_mw(pd_, IBV_MW_TYPE_1);
  ASSERT_EQ(0, ibv_dealloc_mw(mw));
  Refused("ibv_dealloc_mw", [&] { return ibv_dealloc_mw(mw); });
  ibv_ah_attr path{};
  path.port_num = 1;
  path.dlid = 1;
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ASSERT_EQ(0, ibv_destroy_ah(ah));
  Refused("ibv_destroy_ah", [&] { return ibv_destroy_ah(ah); });
  ibv_qp* qp = MakeQp({});
  qps_.clear();
  ASSERT_EQ(0, ibv_destroy_qp(qp));
  Refused("ibv_destroy_qp", [&] { return ibv_destroy_qp(qp); });
  ibv_xrcd_init_attr domain{};
  domain.comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
  domain.fd = -1;
  domain.oflags = 0100;  // O_CREAT
  ibv_xrcd* xrcd = ibv_open_xrcd(context_, &domain);
  ASSERT_NE(nullptr, xrcd);
  ASSERT_EQ(0, ibv_close_xrcd(xrcd));
  Refused("ibv_close_xrcd", [&] { return ibv_close_xrcd(xrcd); });
}

// A target that has taken from a queue ends after it, when its object stands for another one.
TEST_F(Handles, AnXrcTargetOutlivesTheQueuesThatItUsed) {
  ibv_xrcd* xrcd = OpenXrcd();
  ibv_srq* srq = MakeXrcQueue(xrcd, cq_);
  ibv_qp* target = MakeXrcTarget(xrcd);
  QpOptions options;
  options.type = IBV_QPT_XRC_SEND;
  ibv_qp* sender = MakeQp(options);
  ToInit(sender, options);
  ToRts(sender, AddressOf(target), options);
  options.type = IBV_QPT_XRC_RECV;
  ToInit(target, options);
  ToRts(target, AddressOf(sender), options);
  const auto exchange = [&](ibv_srq* to) {
    ibv_send_wr wr = Wr(1, IBV_WR_SEND);
    ASSERT_EQ(0, ibv_get_srq_num(to, &wr.qp_type.xrc.remote_srqn));
    ASSERT_EQ(0, Receive(to, 2, {Range(4096, 64)}));
    ASSERT_EQ(0, Send(sender, wr, {Range(0, 64)}));
    for (const ibv_wc& wc : Wait(cq_, 2)) EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
  };
  exchange(srq);
  ASSERT_EQ(0, ibv_destroy_srq(srq));
  ibv_srq* other = MakeXrcQueue(xrcd, cq_);
  for (int i = 0; i < 1000 && other != srq; ++i) {
    ASSERT_EQ(0, ibv_destroy_srq(other));
    other = MakeXrcQueue(xrcd, cq_);
  }
  ASSERT_EQ(srq, other) << "the object was not used again";
  exchange(other);
  ASSERT_EQ(0, ibv_destroy_srq(other));
  for (ibv_qp* qp : qps_) ASSERT_EQ(0, ibv_destroy_qp(qp));
  qps_.clear();
  ASSERT_EQ(0, ibv_close_xrcd(xrcd));
}

TEST_F(Handles, UseAfterDestroyIsRefused) {
  ibv_qp* qp = MakeQp({});
  qps_.clear();
  ASSERT_EQ(0, ibv_destroy_qp(qp));
  ibv_qp_attr attributes{};
  ibv_qp_init_attr init{};
  Refused("ibv_modify_qp", [&] { return ibv_modify_qp(qp, &attributes, IBV_QP_STATE); });
  Refused("ibv_query_qp", [&] { return ibv_query_qp(qp, &attributes, IBV_QP_STATE, &init); });
  Refused("ibv_post_send", [&] { return Send(qp, Wr(1, IBV_WR_SEND), {Range(0, 8)}); });
  Refused("ibv_post_recv", [&] { return Receive(qp, 1, {Range(0, 8)}); });
  ibv_cq* cq = ibv_create_cq(context_, 4, nullptr, nullptr, 0);
  ASSERT_EQ(0, ibv_destroy_cq(cq));
  ibv_wc wc;
  Refused("ibv_poll_cq", [&] { return ibv_poll_cq(cq, 1, &wc) < 0 ? errno : 0; });
  Refused("ibv_req_notify_cq", [&] { return ibv_req_notify_cq(cq, 0); });
  Refused("ibv_resize_cq", [&] { return ibv_resize_cq(cq, 8); });
  init.qp_type = IBV_QPT_RC;
  init.send_cq = init.recv_cq = cq;
  Refused("ibv_create_qp", [&] { return ErrnoOf(ibv_create_qp(pd_, &init)); });
  ibv_pd* pd = ibv_alloc_pd(context_);
  ASSERT_EQ(0, ibv_dealloc_pd(pd));
  Refused("ibv_reg_mr", [&] { return ErrnoOf(ibv_reg_mr(pd, buffer_.data(), 64, 0)); });
  ibv_srq_init_attr wanted{nullptr, {4, 1, 0}};
  Refused("ibv_create_srq", [&] { return ErrnoOf(ibv_create_srq(pd, &wanted)); });
  ibv_srq* srq = ibv_create_srq(pd_, &wanted);
  ASSERT_EQ(0, ibv_destroy_srq(srq));
  ibv_recv_wr receive{};
  ibv_recv_wr* bad = nullptr;
  Refused("ibv_post_srq_recv", [&] { return ibv_post_srq_recv(srq, &receive, &bad); });
  EXPECT_EQ(&receive, bad);
  ibv_srq_attr limits{};
  Refused("ibv_modify_srq", [&] { return ibv_modify_srq(srq, &limits, IBV_SRQ_LIMIT); });
  Refused("ibv_query_srq", [&] { return ibv_query_srq(srq, &limits); });
}

TEST_F(Handles, AStaleAddressHandleIsRefusedAndTheQueuePairGoesOn) {
  QpOptions options;
  options.type = IBV_QPT_UD;
  ibv_qp* qp = MakeQp(options);
  ToInit(qp, options);
  ToRts(qp, {}, options);
  ibv_ah_attr path{};
  path.port_num = 1;
  path.dlid = AddressOf(qp).lid;
  ibv_ah* ah = ibv_create_ah(pd_, &path);
  ASSERT_EQ(0, ibv_destroy_ah(ah));
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  wr.wr.ud = {ah, qp->qp_num, kTestQueueKey};
  Refused("ibv_post_send", [&] { return Send(qp, wr, {Range(0, 8)}); });
  wr.wr.ud.ah = ibv_create_ah(pd_, &path);
  EXPECT_EQ(0, Send(qp, wr, {Range(0, 8)}));
  EXPECT_EQ(1u, Wait(cq_, 1).size());
  EXPECT_EQ(0, ibv_destroy_ah(wr.wr.ud.ah));
}

TEST_F(Handles, NoHandleIsRefused) {
  Refused("ibv_dealloc_pd", [] { return ibv_dealloc_pd(nullptr); });
  Refused("ibv_dereg_mr", [] { return ibv_dereg_mr(nullptr); });
  Refused("ibv_destroy_cq", [] { return ibv_destroy_cq(nullptr); });
  Refused("ibv_destroy_qp", [] { return ibv_destroy_qp(nullptr); });
  Refused("ibv_destroy_srq", [] { return ibv_destroy_srq(nullptr); });
  Refused("ibv_destroy_ah", [] { return ibv_destroy_ah(nullptr); });
  Refused("ibv_destroy_comp_channel", [] { return ibv_destroy_comp_channel(nullptr); });
  Refused("ibv_modify_qp", [] { return ibv_modify_qp(nullptr, nullptr, 0); });
  Refused("ibv_resize_cq", [] { return ibv_resize_cq(nullptr, 1); });
  Refused("ibv_alloc_pd", [] { return ErrnoOf(ibv_alloc_pd(nullptr)); });
  Refused("ibv_reg_mr", [&] { return ErrnoOf(ibv_reg_mr(nullptr, buffer_.data(), 1, 0)); });
  Refused("ibv_create_qp", [&] { return ErrnoOf(ibv_create_qp(pd_, nullptr)); });
  Refused("ibv_create_srq", [&] { return ErrnoOf(ibv_create_srq(pd_, nullptr)); });
  Refused("ibv_create_ah", [&] { return ErrnoOf(ibv_create_ah(pd_, nullptr)); });
  Refused("ibv_create_cq", [] { return ErrnoOf(ibv_create_cq(nullptr, 1, nullptr, nullptr, 0)); });
  ibv_qp* qp = MakeQp({});
  EXPECT_EQ(EINVAL, ibv_modify_qp(qp, nullptr, IBV_QP_STATE));
  EXPECT_EQ(EINVAL, ibv_query_qp(qp, nullptr, IBV_QP_STATE, nullptr));
  // A refused request without a place to name it.
  ibv_send_wr wr = Wr(1, IBV_WR_SEND);
  EXPECT_EQ(EINVAL, ibv_post_send(qp, &wr, nullptr));
  ibv_recv_wr receive{};
  EXPECT_EQ(EINVAL, ibv_post_recv(qp, &receive, nullptr));
}

// Whose device it is, is not known: the real library would look into it.
TEST_F(Handles, NoDeviceAndNoContextIsRefused) {
  ibv_context* const none = nullptr;
  ibv_async_event event{};
  ibv_device_attr device{};
  ibv_gid gid{};
  ibv_gid_entry entry{};
  __be16 key = 0;
  ibv_ah_attr path{};
  Refused("ibv_get_device_name", [] { return ErrnoOf(ibv_get_device_name(nullptr)); });
  Refused("ibv_get_device_guid", [] { return ErrnoOf(ibv_get_device_guid(nullptr)); });
  Refused("ibv_get_device_index", [] { return ErrnoOf(ibv_get_device_index(nullptr)); });
  Refused("ibv_open_device", [] { return ErrnoOf(ibv_open_device(nullptr)); });
  Refused("ibv_close_device", [&] { return ibv_close_device(none); });
  Refused("ibv_get_async_event", [&] { return ErrnoOf(ibv_get_async_event(none, &event)); });
  Refused("ibv_query_device", [&] { return ibv_query_device(none, &device); });
  Refused("ibv_query_gid", [&] { return ErrnoOf(ibv_query_gid(none, 1, 0, &gid)); });
  Refused("ibv_query_gid_ex", [&] { return ibv_query_gid_ex(none, 1, 0, &entry, 0); });
  Refused("ibv_query_gid_table",
          [&] { return static_cast<int>(-ibv_query_gid_table(none, &entry, 1, 0)); });
  Refused("ibv_query_pkey", [&] { return ErrnoOf(ibv_query_pkey(none, 1, 0, &key)); });
  Refused("ibv_get_pkey_index", [&] { return ErrnoOf(ibv_get_pkey_index(none, 1, 0)); });
  Refused("ibv_resolve_eth_l2_from_gid",
          [&] { return ErrnoOf(ibv_resolve_eth_l2_from_gid(none, &path, nullptr, nullptr)); });
  Refused("ibv_query_qp_data_in_order",
          [] { return ErrnoOf(ibv_query_qp_data_in_order(nullptr, IBV_WR_SEND, 0)); });
}

TEST_F(Handles, NoPlaceForAnAnswerIsRefused) {
  Refused("ibv_query_device", [&] { return ibv_query_device(context_, nullptr); });
  Refused("ibv_query_gid", [&] { return ErrnoOf(ibv_query_gid(context_, 1, 0, nullptr)); });
  Refused("ibv_query_gid_ex", [&] { return ibv_query_gid_ex(context_, 1, 0, nullptr, 0); });
  Refused("ibv_query_pkey", [&] { return ErrnoOf(ibv_query_pkey(context_, 1, 0, nullptr)); });
  Refused("ibv_get_async_event", [&] { return ErrnoOf(ibv_get_async_event(context_, nullptr)); });
  Refused("ibv_query_rt_values_ex", [&] { return ibv_query_rt_values_ex(context_, nullptr); });
  Refused("ibv_open_xrcd", [&] { return ErrnoOf(ibv_open_xrcd(context_, nullptr)); });
  Refused("ibv_poll_cq", [&] { return ErrnoOf(ibv_poll_cq(cq_, 1, nullptr)); });
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  Refused("ibv_get_cq_event", [&] { return ErrnoOf(ibv_get_cq_event(channel, nullptr, nullptr)); });
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
  QpOptions options;
  options.type = IBV_QPT_UD;
  ibv_qp* qp = MakeQp(options);
  Refused("ibv_attach_mcast", [&] { return ibv_attach_mcast(qp, nullptr, 0); });
  Refused("ibv_detach_mcast", [&] { return ibv_detach_mcast(qp, nullptr, 0); });
  Refused("ibv_ack_async_event", [] {
    errno = 0;
    ibv_ack_async_event(nullptr);
    return errno;
  });
}

TEST_F(Handles, MemoryThatIsNotThereIsRefused) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  auto* memory = static_cast<std::byte*>(
      mmap(nullptr, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, /*fd=*/-1, 0));
  ASSERT_EQ(0, munmap(memory + page, page));
  const auto error = [&](void* address, std::size_t length) {
    ibv_mr* mr = ibv_reg_mr(pd_, address, length, kAllAccess);
    if (mr == nullptr) return errno;
    EXPECT_EQ(0, ibv_dereg_mr(mr));
    return 0;
  };
  EXPECT_EQ(EFAULT, error(nullptr, 64));
  EXPECT_EQ(EFAULT, error(memory + page, 1));
  EXPECT_EQ(EFAULT, error(memory + page - 1, 2));
  EXPECT_EQ(EFAULT, error(memory, 3 * page));
  EXPECT_EQ(EFAULT, error(nullptr, SIZE_MAX));
  EXPECT_EQ(EINVAL, error(memory, SIZE_MAX));
  EXPECT_EQ(0, error(memory, page));
  EXPECT_EQ(0, error(memory + 2 * page + 1, page - 1));
  // What its key is used with begins elsewhere, but not at another place of a page.
  EXPECT_EQ(nullptr, ibv_reg_mr_iova(pd_, memory, page, 8, kAllAccess));
  EXPECT_EQ(EINVAL, errno);
  ibv_mr* mr = ibv_reg_mr_iova(pd_, memory + 8, page - 8, (std::uint64_t{1} << 40) + 8, kAllAccess);
  ASSERT_NE(nullptr, mr);
  EXPECT_EQ(IBV_REREG_MR_ERR_CMD,
            ibv_rereg_mr(mr, IBV_REREG_MR_CHANGE_TRANSLATION, nullptr, memory + page, page, 0));
  EXPECT_EQ(EFAULT, errno);
  EXPECT_EQ(0, ibv_dereg_mr(mr));
  munmap(memory, page);
  munmap(memory + 2 * page, page);
}

TEST_F(Handles, WhatIsInUseIsBusy) {
  EXPECT_EQ(EBUSY, ibv_dealloc_pd(pd_));  // the region
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  ibv_cq* cq = ibv_create_cq(context_, 4, nullptr, channel, 0);
  EXPECT_EQ(EBUSY, ibv_destroy_comp_channel(channel));
  ibv_pd* pd = ibv_alloc_pd(context_);
  ibv_srq_init_attr wanted{nullptr, {4, 1, 0}};
  ibv_srq* srq = ibv_create_srq(pd, &wanted);
  EXPECT_EQ(EBUSY, ibv_dealloc_pd(pd));
  ibv_qp_init_attr init{};
  init.qp_type = IBV_QPT_RC;
  init.send_cq = init.recv_cq = cq;
  init.srq = srq;
  init.cap = {1, 0, 1, 0, 0};
  ibv_qp* qp = ibv_create_qp(pd, &init);
  ASSERT_NE(nullptr, qp);
  EXPECT_EQ(EBUSY, ibv_destroy_cq(cq));
  EXPECT_EQ(EBUSY, ibv_destroy_srq(srq));
  EXPECT_EQ(0, ibv_destroy_qp(qp));
  EXPECT_EQ(0, ibv_destroy_srq(srq));
  EXPECT_EQ(0, ibv_destroy_cq(cq));
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
  ibv_mw* mw = ibv_alloc_mw(pd, IBV_MW_TYPE_1);
  EXPECT_EQ(EBUSY, ibv_dealloc_pd(pd));
  EXPECT_EQ(0, ibv_dealloc_mw(mw));
  EXPECT_EQ(0, ibv_dealloc_pd(pd));
}

TEST_F(Handles, AQueuePairOfAMulticastGroupIsBusy) {
  QpOptions options;
  options.type = IBV_QPT_UD;
  ibv_qp* qp = MakeQp(options);
  ToInit(qp, options);
  ibv_gid group{};
  group.raw[10] = group.raw[11] = 0xff;
  group.raw[12] = 239;
  group.raw[15] = 7;
  ASSERT_EQ(0, ibv_attach_mcast(qp, &group, 0));
  EXPECT_EQ(EBUSY, ibv_destroy_qp(qp));
  EXPECT_EQ(0, ibv_detach_mcast(qp, &group, 0));
  EXPECT_EQ(EINVAL, ibv_detach_mcast(qp, &group, 0));
}

TEST_F(Handles, ARegionWithABoundWindowIsBusy) {
  ibv_qp* qp = MakeQp({});
  ibv_qp* peer = MakeQp({});
  Connect(qp, peer, {});
  ibv_mw* mw = ibv_alloc_mw(pd_, IBV_MW_TYPE_1);
  ibv_mw_bind bind{};
  bind.wr_id = 5;
  bind.send_flags = IBV_SEND_SIGNALED;
  bind.bind_info = {mr_, At(0), 4096, IBV_ACCESS_REMOTE_READ};
  ASSERT_EQ(0, ibv_bind_mw(qp, mw, &bind));
  ASSERT_EQ(IBV_WC_SUCCESS, Wait(cq_, 1)[0].status);
  EXPECT_EQ(EBUSY, ibv_dereg_mr(mr_));
  EXPECT_EQ(0, ibv_dealloc_mw(mw));
}

TEST_F(Handles, ObjectsOfAnotherOpeningOfTheDeviceAreRefused) {
  ibv_device** list = ibv_get_device_list(nullptr);
  ibv_context* other = ibv_open_device(list[0]);
  ibv_free_device_list(list);
  ibv_pd* pd = ibv_alloc_pd(other);
  ibv_comp_channel* channel = ibv_create_comp_channel(other);
  ibv_cq* cq = ibv_create_cq(other, 4, nullptr, channel, 0);
  ASSERT_NE(nullptr, cq);
  EXPECT_EQ(EINVAL, ErrnoOf(ibv_create_cq(context_, 4, nullptr, channel, 0)));
  ibv_qp_init_attr init{};
  init.qp_type = IBV_QPT_RC;
  init.cap = {1, 1, 1, 1, 0};
  init.send_cq = cq_;
  init.recv_cq = cq;
  EXPECT_EQ(EINVAL, ErrnoOf(ibv_create_qp(pd_, &init)));
  init.recv_cq = cq_;
  EXPECT_EQ(EINVAL, ErrnoOf(ibv_create_qp(pd, &init)));
  ibv_parent_domain_init_attr parent{};
  parent.pd = pd;
  EXPECT_EQ(EINVAL, ErrnoOf(ibv_alloc_parent_domain(context_, &parent)));
  EXPECT_EQ(IBV_REREG_MR_ERR_INPUT, ibv_rereg_mr(mr_, IBV_REREG_MR_CHANGE_PD, pd, nullptr, 0, 0));
  EXPECT_EQ(0, ibv_destroy_cq(cq));
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
  EXPECT_EQ(0, ibv_dealloc_pd(pd));
  EXPECT_EQ(0, ibv_close_device(other));
}

TEST_F(Handles, AChangeThatIsPartlyWrongChangesNothing) {
  ibv_srq_init_attr wanted{nullptr, {8, 1, 0}};
  ibv_srq* srq = ibv_create_srq(pd_, &wanted);
  ibv_srq_attr change{16, 1, 17};
  EXPECT_EQ(EINVAL, ibv_modify_srq(srq, &change, IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT));
  ibv_srq_attr now{};
  ASSERT_EQ(0, ibv_query_srq(srq, &now));
  EXPECT_EQ(8u, now.max_wr);
  change.srq_limit = 12;
  EXPECT_EQ(0, ibv_modify_srq(srq, &change, IBV_SRQ_MAX_WR | IBV_SRQ_LIMIT));
  EXPECT_EQ(0, ibv_destroy_srq(srq));
  EXPECT_EQ(IBV_REREG_MR_ERR_INPUT, ibv_rereg_mr(mr_, IBV_REREG_MR_CHANGE_TRANSLATION, nullptr,
                                                 buffer_.data(), ~std::size_t{0} - 8, 0));
  EXPECT_EQ(kBuffer, mr_->length);
}

// The background thread moves messages of queue pairs whose queues come and go.
TEST_F(Handles, ObjectsComeAndGoUnderTheBackgroundThread) {
  for (int round = 0; round < 60; ++round) {
    ibv_comp_channel* channel = ibv_create_comp_channel(context_);
    ibv_cq* cq = ibv_create_cq(context_, 64, nullptr, channel, 0);
    ibv_qp* a = MakeQp({}, cq);
    ibv_qp* b = MakeQp({}, cq);
    Connect(a, b, {});
    for (std::uint64_t i = 0; i < 8; ++i) {
      ASSERT_EQ(0, Receive(b, i, {Range(i * 64, 64)}));
      ASSERT_EQ(0, Send(a, Wr(i, IBV_WR_SEND), {Range(4096 + i * 64, 64)}));
    }
    // Armed and not polled: the background thread has to do it.
    ASSERT_EQ(0, ibv_req_notify_cq(cq, 0));
    if (round % 3 == 0) Wait(cq, 4);
    qps_.clear();
    ASSERT_EQ(0, ibv_destroy_qp(round % 2 == 0 ? a : b));
    ASSERT_EQ(0, ibv_destroy_qp(round % 2 == 0 ? b : a));
    ASSERT_EQ(0, ibv_destroy_cq(cq));
    ASSERT_EQ(0, ibv_destroy_comp_channel(channel));
  }
}

TEST_F(Handles, AClosedDeviceIsRefused) {
  ibv_device** list = ibv_get_device_list(nullptr);
  ibv_context* context = ibv_open_device(list[0]);
  ibv_free_device_list(list);
  ASSERT_EQ(0, ibv_close_device(context));
  Refused("ibv_close_device", [&] { return ibv_close_device(context); });
  Refused("ibv_alloc_pd", [&] { return ErrnoOf(ibv_alloc_pd(context)); });
  Refused("ibv_create_cq", [&] { return ErrnoOf(ibv_create_cq(context, 1, nullptr, nullptr, 0)); });
}

TEST_F(Handles, AForkedChildHasADeviceOfItsOwnAndNothingOfItsParents) {
  ibv_qp* qp = MakeQp({});
  const pid_t child = fork();
  if (child == 0) {
    int wrong = 0;
    wrong += ibv_dereg_mr(mr_) != EINVAL;
    wrong += ibv_destroy_qp(qp) != EINVAL;
    wrong += ibv_destroy_cq(cq_) != EINVAL;
    wrong += ibv_dealloc_pd(pd_) != EINVAL;
    wrong += ibv_close_device(context_) != 0;
    ibv_device** list = ibv_get_device_list(nullptr);
    ibv_context* own = ibv_open_device(list[0]);
    ibv_pd* pd = own == nullptr ? nullptr : ibv_alloc_pd(own);
    ibv_mr* mr = pd == nullptr ? nullptr : ibv_reg_mr(pd, buffer_.data(), 64, 0);
    wrong += mr == nullptr || ibv_dereg_mr(mr) != 0 || ibv_dealloc_pd(pd) != 0;
    wrong += own == nullptr || ibv_close_device(own) != 0;
    _exit(wrong);
  }
  int status = -1;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_TRUE(WIFEXITED(status)) << status;
  EXPECT_EQ(0, WEXITSTATUS(status));
}

// The manual names no errno; the memory and the connections of another process cannot be used.
TEST_F(Handles, ADeviceThatAnotherProcessOpenedIsNotImported) {
  int ends[2];
  ASSERT_EQ(0, pipe(ends));
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);  // not longer than the test
    ibv_device** list = ibv_get_device_list(nullptr);
    const ibv_context* own = ibv_open_device(list[0]);
    const int fd = own == nullptr ? -1 : own->cmd_fd;
    if (write(ends[1], &fd, sizeof fd) == sizeof fd) pause();
    _exit(1);
  }
  int number = -1;
  ASSERT_EQ(static_cast<ssize_t>(sizeof number), read(ends[0], &number, sizeof number));
  const std::string path = "/proc/" + std::to_string(child) + "/fd/" + std::to_string(number);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_LE(0, fd);
  int error = 0;
  const std::string said = ErrorsOf([&] { error = ErrnoOf(ibv_import_device(fd)); });
  EXPECT_EQ(EOPNOTSUPP, error);
  const std::string expected = "nex: ibv_import_device: the device was opened by another process";
  EXPECT_EQ(0u, said.find(expected)) << said;
  EXPECT_EQ(0, close(fd));  // it is still the program's
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  for (const int end : ends) close(end);
}

TEST_F(Handles, WhatIsImportedIsWhatThisProcessHas) {
  const int copy = dup(context_->cmd_fd);
  ibv_context* context = ibv_import_device(copy);
  ASSERT_NE(nullptr, context);
  EXPECT_EQ(nullptr, ibv_import_pd(context, 0xffff));
  EXPECT_EQ(ENOENT, errno);
  ibv_pd* pd = ibv_import_pd(context, pd_->handle);
  ASSERT_NE(nullptr, pd);
  EXPECT_EQ(nullptr, ibv_import_mr(pd, 0xffff));
  EXPECT_EQ(ENOENT, errno);
  ibv_mr* mr = ibv_import_mr(pd, mr_->handle);
  ASSERT_NE(nullptr, mr);
  EXPECT_EQ(mr_->lkey, mr->lkey);
  EXPECT_EQ(mr_->rkey, mr->rkey);
  ibv_unimport_mr(mr);
  ibv_unimport_pd(pd);
  EXPECT_EQ(0, ibv_close_device(context));
}

}  // namespace
}  // namespace oxmem::nex
