#include "tests/e2e/nex/verbs/device.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <string>

namespace oxmem::nex {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kPatience = std::chrono::seconds(20);

// Processes of one port range find each other and take the next slot, so any range will do that
// nobody else uses; set before the first verb.
const bool prepared = [] {
  const int port = 20000 + static_cast<int>(getpid()) * 7 % 11000;
  setenv("NEX_PORT", std::to_string(port).c_str(), 0);
  return true;
}();

ibv_context* OpenDevice() {
  ibv_device** list = ibv_get_device_list(nullptr);
  const char* name = std::getenv("VERBS_DEVICE");
  ibv_context* context = nullptr;
  for (int i = 0; list != nullptr && list[i] != nullptr && context == nullptr; ++i) {
    if (name == nullptr || std::string(name) == list[i]->name) context = ibv_open_device(list[i]);
  }
  if (list != nullptr) ibv_free_device_list(list);
  return context;
}

// An IPv4 one where there is one: the link-local address of an interface may not be usable yet.
std::uint8_t FirstRoceV2(ibv_context* context) {
  ibv_gid_entry entries[64];
  const ssize_t count = ibv_query_gid_table(context, entries, 64, 0);
  std::optional<std::uint32_t> best;
  for (ssize_t i = 0; i < count; ++i) {
    if (entries[i].gid_type != IBV_GID_TYPE_ROCE_V2) continue;
    const bool v4 = entries[i].gid.raw[10] == 0xff && entries[i].gid.raw[0] == 0;
    if (v4) return static_cast<std::uint8_t>(entries[i].gid_index);
    if (!best) best = entries[i].gid_index;
  }
  EXPECT_TRUE(best) << "no RoCE v2 address";
  return static_cast<std::uint8_t>(best.value_or(0));
}

}  // namespace

void VerbsTest::SetUp() {
  ASSERT_TRUE(prepared);
  context_ = OpenDevice();
  ASSERT_NE(nullptr, context_);
  gid_index_ = FirstRoceV2(context_);
  pd_ = ibv_alloc_pd(context_);
  cq_ = ibv_create_cq(context_, 1024, nullptr, nullptr, 0);
  mr_ = ibv_reg_mr(pd_, buffer_.data(), buffer_.size(), kAllAccess);
  ASSERT_TRUE(pd_ != nullptr && cq_ != nullptr && mr_ != nullptr);
}

void VerbsTest::TearDown() {
  for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
  if (context_ == nullptr) return;
  EXPECT_EQ(0, ibv_dereg_mr(mr_));
  EXPECT_EQ(0, ibv_destroy_cq(cq_));
  EXPECT_EQ(0, ibv_dealloc_pd(pd_));
  EXPECT_EQ(0, ibv_close_device(context_));
}

ibv_qp* VerbsTest::MakeQp(const QpOptions& options, ibv_cq* cq) {
  ibv_qp_init_attr init{};
  init.qp_type = options.type;
  init.send_cq = init.recv_cq = cq == nullptr ? cq_ : cq;
  init.srq = options.srq;
  init.cap = {options.depth, options.srq == nullptr ? options.depth : 0, 4, 4, 64};
  ibv_qp* qp = ibv_create_qp(pd_, &init);
  EXPECT_NE(nullptr, qp);
  if (qp != nullptr) qps_.push_back(qp);
  return qp;
}

ibv_xrcd* VerbsTest::OpenXrcd() {
  ibv_xrcd_init_attr init{};
  init.comp_mask = IBV_XRCD_INIT_ATTR_FD | IBV_XRCD_INIT_ATTR_OFLAGS;
  init.fd = -1;
  init.oflags = O_CREAT;
  return ibv_open_xrcd(context_, &init);
}

ibv_srq* VerbsTest::MakeXrcQueue(ibv_xrcd* xrcd, ibv_cq* cq) {
  ibv_srq_init_attr_ex init{};
  init.attr = {16, 1, 0};
  init.comp_mask =
      IBV_SRQ_INIT_ATTR_TYPE | IBV_SRQ_INIT_ATTR_PD | IBV_SRQ_INIT_ATTR_XRCD | IBV_SRQ_INIT_ATTR_CQ;
  init.srq_type = IBV_SRQT_XRC;
  init.pd = pd_;
  init.xrcd = xrcd;
  init.cq = cq;
  return ibv_create_srq_ex(context_, &init);
}

ibv_qp* VerbsTest::MakeXrcTarget(ibv_xrcd* xrcd) {
  ibv_qp_init_attr_ex init{};
  init.qp_type = IBV_QPT_XRC_RECV;
  init.comp_mask = IBV_QP_INIT_ATTR_XRCD;
  init.xrcd = xrcd;
  ibv_qp* qp = ibv_create_qp_ex(context_, &init);
  EXPECT_NE(nullptr, qp);
  if (qp != nullptr) qps_.push_back(qp);
  return qp;
}

void VerbsTest::ToInit(ibv_qp* qp, const QpOptions& options) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.port_num = 1;
  attributes.qkey = kTestQueueKey;
  attributes.qp_access_flags = static_cast<unsigned>(options.access & ~IBV_ACCESS_MW_BIND);
  const int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
                   (options.type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS);
  ASSERT_EQ(0, ibv_modify_qp(qp, &attributes, mask));
}

void VerbsTest::ToRtr(ibv_qp* qp, const QpAddress& peer, const QpOptions& options) {
  ibv_qp_attr a{};
  a.qp_state = IBV_QPS_RTR;
  a.path_mtu = IBV_MTU_1024;
  a.dest_qp_num = peer.qpn;
  a.max_dest_rd_atomic = options.reads;
  a.min_rnr_timer = options.min_rnr_timer;
  a.ah_attr.port_num = 1;
  a.ah_attr.dlid = peer.lid;
  if (!options.by_lid) {
    a.ah_attr.is_global = 1;
    a.ah_attr.grh.dgid = peer.gid;
    a.ah_attr.grh.sgid_index = gid_index_;
    a.ah_attr.grh.hop_limit = 64;
  }
  int mask = IBV_QP_STATE;
  if (options.type != IBV_QPT_UD) {
    mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
  }
  if (options.type == IBV_QPT_RC || options.type == IBV_QPT_XRC_RECV) {
    mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
  }
  ASSERT_EQ(0, ibv_modify_qp(qp, &a, mask));
}

void VerbsTest::ToRts(ibv_qp* qp, const QpAddress& peer, const QpOptions& options) {
  ToRtr(qp, peer, options);
  ibv_qp_attr a{};
  a.qp_state = IBV_QPS_RTS;
  a.max_rd_atomic = options.reads;
  a.timeout = options.timeout;
  a.retry_cnt = options.retry_count;
  a.rnr_retry = options.rnr_retry;
  int mask = IBV_QP_STATE | IBV_QP_SQ_PSN;
  if (options.type == IBV_QPT_XRC_RECV) mask |= IBV_QP_TIMEOUT;
  if (options.type == IBV_QPT_RC || options.type == IBV_QPT_XRC_SEND) {
    mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_MAX_QP_RD_ATOMIC;
  }
  ASSERT_EQ(0, ibv_modify_qp(qp, &a, mask));
}

QpAddress VerbsTest::AddressOf(const ibv_qp* qp) const {
  QpAddress address;
  address.qpn = qp->qp_num;
  EXPECT_EQ(0, ibv_query_gid(context_, 1, gid_index_, &address.gid));
  ibv_port_attr port{};
  EXPECT_EQ(0, ibv_query_port(context_, 1, &port));
  address.lid = port.lid;
  return address;
}

void VerbsTest::Connect(ibv_qp* a, ibv_qp* b, const QpOptions& options) {
  ToInit(a, options);
  ToInit(b, options);
  ToRts(a, AddressOf(b), options);
  ToRts(b, AddressOf(a), options);
}

int VerbsTest::Send(ibv_qp* qp, ibv_send_wr wr, std::vector<ibv_sge> sges) {
  wr.sg_list = sges.data();
  wr.num_sge = static_cast<int>(sges.size());
  ibv_send_wr* bad = nullptr;
  return ibv_post_send(qp, &wr, &bad);
}

int VerbsTest::Receive(ibv_qp* qp, std::uint64_t id, std::vector<ibv_sge> sges) {
  ibv_recv_wr wr{};
  wr.wr_id = id;
  wr.sg_list = sges.data();
  wr.num_sge = static_cast<int>(sges.size());
  ibv_recv_wr* bad = nullptr;
  return ibv_post_recv(qp, &wr, &bad);
}

int VerbsTest::Receive(ibv_srq* srq, std::uint64_t id, std::vector<ibv_sge> sges) {
  ibv_recv_wr wr{};
  wr.wr_id = id;
  wr.sg_list = sges.data();
  wr.num_sge = static_cast<int>(sges.size());
  ibv_recv_wr* bad = nullptr;
  return ibv_post_srq_recv(srq, &wr, &bad);
}

ibv_send_wr VerbsTest::Wr(std::uint64_t id, ibv_wr_opcode opcode) {
  ibv_send_wr wr{};
  wr.wr_id = id;
  wr.opcode = opcode;
  wr.send_flags = IBV_SEND_SIGNALED;
  return wr;
}

std::vector<ibv_wc> VerbsTest::Wait(ibv_cq* cq, std::size_t count) {
  std::vector<ibv_wc> all(count);
  std::size_t have = 0;
  for (const auto until = Clock::now() + kPatience; have < count && Clock::now() < until;) {
    const int got = ibv_poll_cq(cq, static_cast<int>(count - have), &all[have]);
    if (got < 0) break;
    have += static_cast<std::size_t>(got);
  }
  EXPECT_EQ(count, have);
  all.resize(have);
  return all;
}

bool VerbsTest::HasEvent() const {
  pollfd readable{context_->async_fd, POLLIN, 0};
  return poll(&readable, 1, 0) == 1;
}

std::optional<ibv_async_event> VerbsTest::NextEvent() {
  pollfd readable{context_->async_fd, POLLIN, 0};
  constexpr int kPatienceMs = 20000;
  if (poll(&readable, 1, kPatienceMs) != 1) return std::nullopt;
  ibv_async_event event{};
  if (ibv_get_async_event(context_, &event) != 0) return std::nullopt;
  ibv_ack_async_event(&event);
  return event;
}

}  // namespace oxmem::nex
