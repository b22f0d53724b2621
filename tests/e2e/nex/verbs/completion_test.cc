// Completion queues: overflow, resizing, timestamps, notification.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "tests/e2e/nex/verbs/device.h"

namespace oxmem::nex {
namespace {

class Completions : public VerbsTest {
 protected:
  // Two connected queue pairs; everything of the first goes to `cq`.
  void Pair(ibv_cq* cq, ibv_qp** a, ibv_qp** b) {
    *a = MakeQp({}, cq);
    *b = MakeQp({});
    Connect(*a, *b, {});
  }
  void DestroyAll() {
    for (ibv_qp* qp : qps_) EXPECT_EQ(0, ibv_destroy_qp(qp));
    qps_.clear();
  }
  ibv_send_wr Write(std::uint64_t id) {
    ibv_send_wr wr = Wr(id, IBV_WR_RDMA_WRITE);
    wr.wr.rdma = {At(4096), mr_->rkey};
    return wr;
  }
};

TEST_F(Completions, OverflowIsAnEventAndEndsTheQueuePairsThatItHits) {
  ibv_cq* cq = ibv_create_cq(context_, 2, nullptr, nullptr, 0);
  ASSERT_EQ(2, cq->cqe);
  ibv_qp *a, *b;
  Pair(cq, &a, &b);
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(0, Send(a, Write(i), {Range(0, 8)}));
  // Queue first, queue pair second.
  auto event = NextEvent();
  ASSERT_TRUE(event);
  EXPECT_EQ(IBV_EVENT_CQ_ERR, event->event_type);
  EXPECT_EQ(cq, event->element.cq);
  event = NextEvent();
  ASSERT_TRUE(event);
  EXPECT_EQ(IBV_EVENT_QP_FATAL, event->event_type);
  EXPECT_EQ(a, event->element.qp);
  ibv_qp_attr attributes{};
  ibv_qp_init_attr init{};
  ASSERT_EQ(0, ibv_query_qp(a, &attributes, IBV_QP_STATE, &init));
  EXPECT_EQ(IBV_QPS_ERR, attributes.qp_state);
  // What it had taken is still there, then it is of no use any more.
  const auto done = Wait(cq, 2);
  EXPECT_EQ(0u, done[0].wr_id);
  EXPECT_EQ(1u, done[1].wr_id);
  ibv_wc wc;
  EXPECT_GT(0, ibv_poll_cq(cq, 1, &wc));
  EXPECT_FALSE(HasEvent());
  DestroyAll();
  EXPECT_EQ(0, ibv_destroy_cq(cq));
}

TEST_F(Completions, AQueueThatIgnoresOverflowDropsAndGoesOn) {
  ibv_cq_init_attr_ex wanted{};
  wanted.cqe = 2;
  wanted.comp_mask = IBV_CQ_INIT_ATTR_MASK_FLAGS;
  wanted.flags = IBV_CREATE_CQ_ATTR_IGNORE_OVERRUN;
  ibv_cq* cq = ibv_cq_ex_to_cq(ibv_create_cq_ex(context_, &wanted));
  ASSERT_NE(nullptr, cq);
  ibv_qp *a, *b;
  Pair(cq, &a, &b);
  // The receive at the other side says that everything before it was done.
  for (std::uint64_t i = 0; i < 5; ++i) ASSERT_EQ(0, Send(a, Write(i), {Range(0, 8)}));
  ASSERT_EQ(0, Receive(b, 7, {Range(8192, 8)}));
  ibv_send_wr last = Wr(9, IBV_WR_SEND);
  ASSERT_EQ(0, Send(a, last, {Range(0, 8)}));
  EXPECT_EQ(7u, Wait(cq_, 1)[0].wr_id);
  EXPECT_EQ(2u, Wait(cq, 2).size());
  EXPECT_FALSE(HasEvent());
  ASSERT_EQ(0, Send(a, Write(10), {Range(0, 8)}));
  DestroyAll();
  EXPECT_EQ(0, ibv_destroy_cq(cq));
}

TEST_F(Completions, ResizingKeepsWhatIsThereInOrder) {
  ibv_cq* cq = ibv_create_cq(context_, 4, nullptr, nullptr, 0);
  ibv_qp *a, *b;
  Pair(cq, &a, &b);
  // The ring has turned before it is full.
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(0, Send(a, Write(i), {Range(0, 8)}));
  Wait(cq, 3);
  for (std::uint64_t i = 10; i < 14; ++i) ASSERT_EQ(0, Send(a, Write(i), {Range(0, 8)}));
  ASSERT_EQ(0, Receive(b, 7, {Range(8192, 8)}));
  ibv_send_wr last = Wr(14, IBV_WR_SEND);
  last.send_flags = 0;
  ASSERT_EQ(0, Send(a, last, {Range(0, 8)}));
  Wait(cq_, 1);
  EXPECT_EQ(EINVAL, ibv_resize_cq(cq, 0));
  ASSERT_EQ(0, ibv_resize_cq(cq, 16));
  EXPECT_EQ(16, cq->cqe);
  for (std::uint64_t i = 14; i < 20; ++i) ASSERT_EQ(0, Send(a, Write(i), {Range(0, 8)}));
  const auto done = Wait(cq, 10);
  for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(10 + i, done[i].wr_id);
  DestroyAll();
  EXPECT_EQ(0, ibv_destroy_cq(cq));
}

TEST_F(Completions, ResizingBelowWhatIsThereIsRefused) {
  ibv_cq* cq = ibv_create_cq(context_, 4, nullptr, nullptr, 0);
  ibv_qp* qp = MakeQp({}, cq);
  ibv_qp_attr error{};
  error.qp_state = IBV_QPS_ERR;
  ASSERT_EQ(0, ibv_modify_qp(qp, &error, IBV_QP_STATE));
  // What is posted now is flushed at once.
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(0, Send(qp, Write(i), {Range(0, 8)}));
  EXPECT_EQ(EINVAL, ibv_resize_cq(cq, 2));
  EXPECT_EQ(4, cq->cqe);
  EXPECT_EQ(0, ibv_resize_cq(cq, 3));
  for (const ibv_wc& wc : Wait(cq, 3)) EXPECT_EQ(IBV_WC_WR_FLUSH_ERR, wc.status);
  DestroyAll();
  EXPECT_EQ(0, ibv_destroy_cq(cq));
}

TEST_F(Completions, TimestampsAreThoseOfTheDevicesClock) {
  ibv_cq_init_attr_ex wanted{};
  wanted.cqe = 16;
  wanted.wc_flags = IBV_WC_EX_WITH_COMPLETION_TIMESTAMP;
  ibv_cq_ex* cq = ibv_create_cq_ex(context_, &wanted);
  ASSERT_NE(nullptr, cq);
  ibv_qp *a, *b;
  Pair(ibv_cq_ex_to_cq(cq), &a, &b);
  const auto clock = [this] {
    ibv_values_ex values{};
    values.comp_mask = IBV_VALUES_MASK_RAW_CLOCK;
    EXPECT_EQ(0, ibv_query_rt_values_ex(context_, &values));
    return static_cast<std::uint64_t>(values.raw_clock.tv_sec) * 1000000000u +
           static_cast<std::uint64_t>(values.raw_clock.tv_nsec);
  };
  std::uint64_t before = clock();
  for (std::uint64_t i = 0; i < 8; ++i) {
    ASSERT_EQ(0, Send(a, Write(i), {Range(0, 8)}));
    ibv_poll_cq_attr none{};
    int found;
    while ((found = ibv_start_poll(cq, &none)) == ENOENT) {
    }
    ASSERT_EQ(0, found);
    const std::uint64_t stamp = ibv_wc_read_completion_ts(cq);
    ibv_end_poll(cq);
    const std::uint64_t after = clock();
    EXPECT_LE(before, stamp);
    EXPECT_LE(stamp, after);
    before = stamp;
  }
  DestroyAll();
  EXPECT_EQ(0, ibv_destroy_cq(ibv_cq_ex_to_cq(cq)));
}

TEST_F(Completions, OnlyASolicitedMessageWakesOneThatWaitsForSuch) {
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  ASSERT_EQ(0, fcntl(channel->fd, F_SETFL, O_NONBLOCK));
  ibv_cq* cq = ibv_create_cq(context_, 16, this, channel, 0);
  ibv_qp *a, *b;
  Pair(cq, &a, &b);
  ASSERT_EQ(0, Receive(a, 1, {Range(0, 8)}));
  ASSERT_EQ(0, Receive(a, 2, {Range(8, 8)}));
  ASSERT_EQ(0, ibv_req_notify_cq(cq, 1));
  ASSERT_EQ(0, Send(b, Wr(1, IBV_WR_SEND), {Range(64, 8)}));
  Wait(cq_, 1);  // the other side has taken it
  ibv_cq* told = nullptr;
  void* about = nullptr;
  EXPECT_EQ(-1, ibv_get_cq_event(channel, &told, &about));
  EXPECT_EQ(EAGAIN, errno);
  ibv_send_wr solicited = Wr(2, IBV_WR_SEND);
  solicited.send_flags |= IBV_SEND_SOLICITED;
  ASSERT_EQ(0, Send(b, solicited, {Range(64, 8)}));
  pollfd readable{channel->fd, POLLIN, 0};
  ASSERT_EQ(1, poll(&readable, 1, 20000));
  ASSERT_EQ(0, ibv_get_cq_event(channel, &told, &about));
  EXPECT_EQ(cq, told);
  EXPECT_EQ(this, about);
  ibv_ack_cq_events(cq, 1);
  EXPECT_EQ(2u, Wait(cq, 2).size());
  DestroyAll();
  EXPECT_EQ(0, ibv_destroy_cq(cq));
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
}

TEST_F(Completions, DestroyingAQueueWaitsForItsEventsToBeAcknowledged) {
  ibv_comp_channel* channel = ibv_create_comp_channel(context_);
  ibv_cq* cq = ibv_create_cq(context_, 16, nullptr, channel, 0);
  ibv_qp *a, *b;
  Pair(cq, &a, &b);
  ASSERT_EQ(0, Receive(a, 1, {Range(0, 8)}));
  ASSERT_EQ(0, ibv_req_notify_cq(cq, 0));
  ASSERT_EQ(0, Send(b, Wr(1, IBV_WR_SEND), {Range(64, 8)}));
  ibv_cq* told = nullptr;
  void* about = nullptr;
  ASSERT_EQ(0, ibv_get_cq_event(channel, &told, &about));
  DestroyAll();
  std::atomic<bool> destroyed{false};
  std::thread destroyer([&] {
    EXPECT_EQ(0, ibv_destroy_cq(cq));
    destroyed = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(destroyed);
  const std::string said = ErrorsOf([&] { ibv_ack_cq_events(cq, 1); });
  EXPECT_EQ("", said);
  destroyer.join();
  EXPECT_EQ(0, ibv_destroy_comp_channel(channel));
}

}  // namespace
}  // namespace oxmem::nex
