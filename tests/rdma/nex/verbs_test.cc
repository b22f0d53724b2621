// libnex.so under a program of the verbs API: linked with it, so that in a build with sanitizers
// both are instrumented, where the programs of the distribution are not. The same cases run between
// queue pairs that copy directly and, with NEX_DIRECT=0, over TCP.
#include <infiniband/verbs.h>
#include <poll.h>
#include <rdma/rdma_cma.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/rdma/nex/verbs_process.h"

namespace oxmem::nex {
namespace {

class LocalAddress : public testing::Environment {
 public:
  void SetUp() override { ASSERT_EQ(setenv("NEX_ADDR", "127.0.0.1", 1), 0); }
};
const auto* const kEnvironment = testing::AddGlobalTestEnvironment(new LocalAddress);

void Fill(std::byte* memory, std::size_t length, unsigned seed) {
  for (std::size_t i = 0; i < length; ++i) memory[i] = static_cast<std::byte>(i * 7 + seed);
}

TEST(Verbs, EveryOperationMovesTheRightBytes) {
  VerbsProcess process;
  ibv_cq* cq = process.NewCq();
  const auto [one, other] = process.Pair(cq, cq);
  for (const std::size_t length : {std::size_t{1}, std::size_t{4096}, std::size_t{300000}}) {
    Fill(process.at(0), length, 1);
    ASSERT_EQ(process.Post(one, IBV_WR_RDMA_WRITE, 1, process.Piece(0, length), 512 << 10), 0);
    process.ExpectDone(cq, 1);
    ASSERT_EQ(std::memcmp(process.at(0), process.at(512 << 10), length), 0);
    Fill(process.at(512 << 10), length, 2);
    ASSERT_EQ(process.Post(one, IBV_WR_RDMA_READ, 2, process.Piece(0, length), 512 << 10), 0);
    process.ExpectDone(cq, 1);
    ASSERT_EQ(std::memcmp(process.at(0), process.at(512 << 10), length), 0);
    Fill(process.at(0), length, 3);
    ASSERT_EQ(process.PostReceive(other, 3, process.Piece(512 << 10, length)), 0);
    ASSERT_EQ(process.Post(one, IBV_WR_SEND, 4, process.Piece(0, length)), 0);
    process.ExpectDone(cq, 2);
    ASSERT_EQ(std::memcmp(process.at(0), process.at(512 << 10), length), 0);
  }
  std::memset(process.at(64), 0, 8);
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(process.Post(one, IBV_WR_ATOMIC_FETCH_AND_ADD, 5, process.Piece(0, 8), 64), 0);
    process.ExpectDone(cq, 1);
    EXPECT_EQ(std::to_integer<int>(*process.at(0)), i);
  }
}

TEST(Verbs, AWaitingThreadIsWokenByEveryMessage) {
  constexpr int kMessages = 500;
  VerbsProcess process;
  ibv_comp_channel* channel = ibv_create_comp_channel(process.context());
  ASSERT_NE(channel, nullptr);
  ibv_cq* sent = process.NewCq();
  ibv_cq* received = process.NewCq(channel);
  const auto [one, other] = process.Pair(sent, received);
  ASSERT_EQ(process.PostReceive(other, 0, process.Piece(0, 64)), 0);
  std::thread receiver([&process, channel, received, other = other] {
    for (int got = 0; got < kMessages;) {
      ASSERT_EQ(ibv_req_notify_cq(received, 0), 0);
      // What came before the request is not told.
      ibv_wc wc{};
      if (const int count = ibv_poll_cq(received, 1, &wc); count > 0) {
        ASSERT_EQ(wc.status, IBV_WC_SUCCESS);
        ++got;
        ASSERT_EQ(process.PostReceive(other, 0, process.Piece(0, 64)), 0);
        continue;
      }
      pollfd ready{.fd = channel->fd, .events = POLLIN, .revents = 0};
      ASSERT_EQ(poll(&ready, 1, 60000), 1) << "after " << got;
      ibv_cq* cq = nullptr;
      void* context = nullptr;
      ASSERT_EQ(ibv_get_cq_event(channel, &cq, &context), 0);
      ibv_ack_cq_events(cq, 1);
    }
  });
  for (int i = 0; i < kMessages; ++i) {
    EXPECT_EQ(process.Post(one, IBV_WR_SEND, 1, process.Piece(4096, 64)), 0);
    process.ExpectDone(sent, 1);
  }
  receiver.join();
  process.Destroy(one);
  process.Destroy(other);
  process.Destroy(received);
  EXPECT_EQ(ibv_destroy_comp_channel(channel), 0);
}

TEST(Verbs, ThreadsShareACompletionQueueAndAReceiveQueue) {
  constexpr int kThreads = 3;
  constexpr int kMessages = 2000;
  VerbsProcess process;
  ibv_cq* shared = process.NewCq();
  ibv_srq* srq = process.NewSrq();
  std::vector<std::pair<ibv_qp*, ibv_cq*>> senders;
  for (int i = 0; i < kThreads; ++i) {
    ibv_cq* own = process.NewCq();
    senders.emplace_back(process.Pair(own, shared, srq).first, own);
  }
  // Each receive has a place of its own.
  const auto receive = [&process, srq](std::uint64_t place) {
    return process.PostReceive(srq, place, process.Piece((512 << 10) + place * 64, 64));
  };
  for (std::uint64_t place = 0; place < 4000; ++place) ASSERT_EQ(receive(place), 0);
  std::atomic<int> received = 0;
  std::vector<std::thread> threads;
  for (const auto& [qp, cq] : senders) {
    threads.emplace_back([&process, qp = qp, cq = cq] {
      for (int sent = 0; sent < kMessages; sent += 20) {
        for (int i = 0; i < 20; ++i) {
          ASSERT_EQ(process.Post(qp, IBV_WR_SEND, 1, process.Piece(4096, 64)), 0);
        }
        process.ExpectDone(cq, 20);
      }
    });
    threads.emplace_back([&received, &receive, shared] {
      const Instant deadline = Now() + Duration::Seconds(60);
      while (received < kThreads * kMessages && Now() < deadline) {
        ibv_wc wc{};
        if (ibv_poll_cq(shared, 1, &wc) != 1) continue;
        ASSERT_EQ(wc.status, IBV_WC_SUCCESS);
        ++received;
        ASSERT_EQ(receive(wc.wr_id), 0);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(received, kThreads * kMessages);
}

TEST(Verbs, WhatIsUnderWayEndsWhenItsQueuePairGoes) {
  for (int round = 0; round < 20; ++round) {
    VerbsProcess process;
    ibv_cq* cq = process.NewCq();
    ibv_cq* peers = process.NewCq();
    const auto [one, other] = process.Pair(cq, peers);
    for (int i = 0; i < 16; ++i) {
      ASSERT_EQ(process.Post(one, IBV_WR_RDMA_WRITE, 1, process.Piece(0, 8192), 512 << 10), 0);
      ASSERT_EQ(process.PostReceive(one, 2, process.Piece(0, 64)), 0);
    }
    if (round % 2 == 0) process.Destroy(other);
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_ERR;
    ASSERT_EQ(ibv_modify_qp(one, &attr, IBV_QP_STATE), 0);
    int flushed = 0;
    for (const ibv_wc& wc : process.Collect(cq, 32)) flushed += wc.status != IBV_WC_SUCCESS;
    EXPECT_GE(flushed, 16) << "the receives at least";
  }
}

TEST(Verbs, FieldsThatTheMaskDoesNotNameMayHoldAnything) {
  VerbsProcess process;
  ibv_cq* cq = process.NewCq();
  ibv_qp* qp = process.NewQp(IBV_QPT_RC, cq);
  ibv_qp_attr attr;
  std::memset(&attr, 0xee, sizeof attr);
  EXPECT_EQ(ibv_modify_qp(qp, &attr, IBV_QP_STATE), EINVAL);
  EXPECT_EQ(ibv_modify_qp(qp, &attr, IBV_QP_CUR_STATE | IBV_QP_PATH_MTU), EINVAL);
  attr.qp_state = IBV_QPS_ERR;
  EXPECT_EQ(ibv_modify_qp(qp, &attr, IBV_QP_STATE), 0);
}

TEST(Verbs, DatagramsArriveWithTheirHeader) {
  VerbsProcess process;
  ibv_cq* cq = process.NewCq();
  ibv_cq* received = process.NewCq();
  ibv_qp* one = process.NewQp(IBV_QPT_UD, cq);
  ibv_qp* other = process.NewQp(IBV_QPT_UD, received);
  for (ibv_qp* qp : {one, other}) {
    ibv_qp_attr attr{};
    attr.qp_state = IBV_QPS_RTR;
    ASSERT_EQ(ibv_modify_qp(qp, &attr, IBV_QP_STATE), 0);
    attr.qp_state = IBV_QPS_RTS;
    ASSERT_EQ(ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN), 0);
  }
  ibv_ah_attr path = process.Path();
  ibv_ah* ah = ibv_create_ah(process.pd(), &path);
  ASSERT_NE(ah, nullptr);
  for (int i = 0; i < 100; ++i) {
    Fill(process.at(0), 1024, static_cast<unsigned>(i));
    ASSERT_EQ(process.PostReceive(other, 1, process.Piece(8192, 40 + 1024)), 0);
    ibv_sge sge = process.Piece(0, 1024);
    ibv_send_wr wr{};
    wr.sg_list = &sge;
    wr.num_sge = 1;
    wr.opcode = IBV_WR_SEND;
    wr.wr.ud = {ah, other->qp_num, 0x11};
    ibv_send_wr* bad = nullptr;
    ASSERT_EQ(ibv_post_send(one, &wr, &bad), 0);
    process.ExpectDone(cq, 1);
    const std::vector<ibv_wc> got = process.Collect(received, 1);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].byte_len, 40u + 1024u);
    EXPECT_EQ(got[0].src_qp, one->qp_num);
    ASSERT_EQ(std::memcmp(process.at(0), process.at(8192 + 40), 1024), 0);
  }
  EXPECT_EQ(ibv_destroy_ah(ah), 0);
}

TEST(Verbs, RegionsComeAndGoWhileOthersAreUsed) {
  VerbsProcess process;
  ibv_cq* cq = process.NewCq();
  const auto [one, other] = process.Pair(cq, cq);
  std::atomic<bool> stop = false;
  std::thread registrar([&process, &stop] {
    std::vector<std::byte> memory(64 << 10);
    while (!stop) {
      ibv_mr* mr = ibv_reg_mr(process.pd(), memory.data(), memory.size(), VerbsProcess::kAccess);
      ASSERT_NE(mr, nullptr);
      ASSERT_EQ(ibv_dereg_mr(mr), 0);
    }
  });
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(process.Post(one, IBV_WR_RDMA_READ, 1, process.Piece(0, 4096), 512 << 10), 0);
    process.ExpectDone(cq, 1);
  }
  stop = true;
  registrar.join();
}

// The next event, which must be the one expected; the caller acknowledges it.
rdma_cm_event* NextEvent(rdma_event_channel* channel, rdma_cm_event_type type) {
  rdma_cm_event* event = nullptr;
  EXPECT_EQ(rdma_get_cm_event(channel, &event), 0);
  if (event == nullptr) return nullptr;
  EXPECT_STREQ(rdma_event_str(event->event), rdma_event_str(type));
  return event;
}

// Resolves, connects, sends one word and disconnects.
void RunClient(rdma_event_channel* channel, std::uint16_t port) {
  rdma_cm_id* id = nullptr;
  ASSERT_EQ(rdma_create_id(channel, &id, nullptr, RDMA_PS_TCP), 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = port;
  ASSERT_EQ(rdma_resolve_addr(id, nullptr, reinterpret_cast<sockaddr*>(&address), 5000), 0);
  rdma_ack_cm_event(NextEvent(channel, RDMA_CM_EVENT_ADDR_RESOLVED));
  ASSERT_EQ(rdma_resolve_route(id, 5000), 0);
  rdma_ack_cm_event(NextEvent(channel, RDMA_CM_EVENT_ROUTE_RESOLVED));
  ibv_qp_init_attr init{};
  init.qp_type = IBV_QPT_RC;
  init.cap = {.max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 1, .max_recv_sge = 1};
  ASSERT_EQ(rdma_create_qp(id, nullptr, &init), 0);
  const std::uint32_t word = 42;
  rdma_conn_param parameters{};
  parameters.private_data = &word;
  parameters.private_data_len = sizeof word;
  parameters.retry_count = parameters.rnr_retry_count = 7;
  ASSERT_EQ(rdma_connect(id, &parameters), 0);
  rdma_ack_cm_event(NextEvent(channel, RDMA_CM_EVENT_ESTABLISHED));
  ASSERT_EQ(rdma_disconnect(id), 0);
  rdma_ack_cm_event(NextEvent(channel, RDMA_CM_EVENT_DISCONNECTED));
  rdma_destroy_qp(id);
  EXPECT_EQ(rdma_destroy_id(id), 0);
}

TEST(Verbs, TheConnectionManagerConnectsTwoThreads) {
  rdma_event_channel* channel = rdma_create_event_channel();
  rdma_event_channel* clients = rdma_create_event_channel();
  ASSERT_TRUE(channel != nullptr && clients != nullptr);
  rdma_cm_id* listener = nullptr;
  ASSERT_EQ(rdma_create_id(channel, &listener, nullptr, RDMA_PS_TCP), 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(rdma_bind_addr(listener, reinterpret_cast<sockaddr*>(&address)), 0);
  ASSERT_EQ(rdma_listen(listener, 4), 0);
  const std::uint16_t port = rdma_get_src_port(listener);
  for (int round = 0; round < 5; ++round) {
    std::thread client([clients, port] { RunClient(clients, port); });
    rdma_cm_event* request = NextEvent(channel, RDMA_CM_EVENT_CONNECT_REQUEST);
    ASSERT_NE(request, nullptr);
    std::uint32_t word = 0;
    ASSERT_GE(request->param.conn.private_data_len, sizeof word);
    std::memcpy(&word, request->param.conn.private_data, sizeof word);
    EXPECT_EQ(word, 42u);
    rdma_cm_id* id = request->id;
    rdma_ack_cm_event(request);
    ibv_qp_init_attr init{};
    init.qp_type = IBV_QPT_RC;
    init.cap = {.max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 1, .max_recv_sge = 1};
    ASSERT_EQ(rdma_create_qp(id, nullptr, &init), 0);
    rdma_conn_param parameters{};
    ASSERT_EQ(rdma_accept(id, &parameters), 0);
    rdma_ack_cm_event(NextEvent(channel, RDMA_CM_EVENT_ESTABLISHED));
    rdma_ack_cm_event(NextEvent(channel, RDMA_CM_EVENT_DISCONNECTED));
    rdma_disconnect(id);
    client.join();
    rdma_destroy_qp(id);
    EXPECT_EQ(rdma_destroy_id(id), 0);
  }
  EXPECT_EQ(rdma_destroy_id(listener), 0);
  rdma_destroy_event_channel(clients);
  rdma_destroy_event_channel(channel);
}

}  // namespace
}  // namespace oxmem::nex
