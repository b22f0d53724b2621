// An MTU that is smaller at the other end or on the way, which nobody tells: what is read and
// written is right all the same, soon, and without an error.

#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "tests/oxmem/channel/stack.h"

namespace oxmem::channel {
namespace {

using transport::Code;
using transport::Op;
using transport::Request;

constexpr std::size_t kJumbo = 9000;
constexpr std::size_t kPlain = 1500;
// Long enough to find out, short beside the deadline of a request.
constexpr Duration kSoon = Duration::Milliseconds(1000);

class FrameLimitsTest : public testing::TestWithParam<tloe::Protocol> {
 protected:
  FrameLimitsTest() : stack_(kJumbo), data_(256 << 10) {
    for (std::size_t i = 0; i < data_.size(); ++i)
      data_[i] = static_cast<std::byte>(i * 7 + i / 999);
  }
  void Start(std::size_t requester, std::size_t node, std::size_t way) {
    stack_.SetMtu(requester, node, way);
    stack_.StartNode();
    Options options = stack_.DefaultOptions();
    options.engine.protocol = GetParam();
    channel_ = &stack_.Connect(std::move(options));
  }
  void Submit(Op op, uint64_t offset, std::span<std::byte> buffer, uint64_t cookie) {
    stack_.Submit(*channel_, Request{.op = op,
                                     .offset = offset,
                                     .length = buffer.size(),
                                     .buffer = buffer.data(),
                                     .cookie = cookie});
  }
  void ExpectWritten(uint64_t cookie) {
    Submit(Op::kWrite, 4096, data_, cookie);
    stack_.Run(kSoon);
    ASSERT_EQ(stack_.Result(cookie).code, Code::kOk);
    EXPECT_EQ(std::memcmp(stack_.memory().data() + 4096, data_.data(), data_.size()), 0);
  }
  // Several at once, so that there is more to answer than fits a frame.
  void ExpectRead(uint64_t cookie, Duration within) {
    std::memcpy(stack_.memory().data(), data_.data(), data_.size());
    std::vector<std::vector<std::byte>> buffers(8, std::vector<std::byte>(32 << 10));
    for (uint64_t i = 0; i < 8; ++i) Submit(Op::kRead, i * (32 << 10), buffers[i], cookie + i);
    stack_.Run(within);
    for (uint64_t i = 0; i < 8; ++i) {
      ASSERT_EQ(stack_.Result(cookie + i).code, Code::kOk);
      EXPECT_EQ(std::memcmp(buffers[i].data(), data_.data() + i * (32 << 10), 32 << 10), 0);
    }
  }

  Stack stack_;
  std::vector<std::byte> data_;
  TloeChannel* channel_ = nullptr;
};

TEST_P(FrameLimitsTest, EqualOnesCostNothing) {
  Start(kJumbo, kJumbo, kJumbo);
  ExpectWritten(1);
  ExpectRead(10, Duration::Milliseconds(20));
  EXPECT_EQ(channel_->stats().resends.value(), 0u);
  EXPECT_EQ(channel_->stats().reconnects.value(), 0u);
  EXPECT_EQ(channel_->largest_message_size(), 13);
}

TEST_P(FrameLimitsTest, WritesToANodeWithASmallerOne) {
  Start(kJumbo, kPlain, kJumbo);
  ExpectWritten(1);
  EXPECT_EQ(channel_->largest_message_size(), 10);
  // What was learned is kept.
  const uint64_t resends = channel_->stats().resends.value();
  ExpectWritten(2);
  EXPECT_EQ(channel_->stats().resends.value(), resends);
  EXPECT_EQ(channel_->stats().reconnects.value(), 1u);
}

TEST_P(FrameLimitsTest, ReadsFromANodeWithASmallerOneLoseNoTime) {
  Start(kJumbo, kPlain, kJumbo);
  ExpectRead(1, Duration::Milliseconds(20));
  EXPECT_EQ(channel_->largest_message_size(), 10);
  EXPECT_EQ(channel_->stats().reconnects.value(), 0u);
  ExpectWritten(100);
  EXPECT_EQ(channel_->stats().resends.value(), 0u);
}

TEST_P(FrameLimitsTest, ANodeWithALargerOneSendsNoLongerFramesThanArrive) {
  Start(kPlain, kJumbo, kJumbo);
  ExpectRead(1, kSoon);
  ExpectRead(20, Duration::Milliseconds(20));
  ExpectWritten(100);
  // The node knows it of a further requester of the same host, and after a reconnect.
  EXPECT_LE(stack_.node().stats().connections_failed.value(), 1u);
}

TEST_P(FrameLimitsTest, ASmallerOneOnTheWayForWrites) {
  Start(kJumbo, kJumbo, kPlain);
  ExpectWritten(1);
  ExpectRead(10, kSoon);
  ExpectWritten(2);
}

TEST_P(FrameLimitsTest, ASmallerOneOnTheWayForReads) {
  Start(kJumbo, kJumbo, kPlain);
  ExpectRead(1, kSoon);
  ExpectWritten(100);
  ExpectRead(20, Duration::Milliseconds(20));
}

TEST_P(FrameLimitsTest, OneThatIsSmallerThanAnyUsual) {
  Start(kJumbo, kJumbo, 300);
  Submit(Op::kWrite, 0, data_, 1);
  stack_.Run(kSoon * 4);
  ASSERT_EQ(stack_.Result(1).code, Code::kOk);
  EXPECT_EQ(channel_->largest_message_size(), 7);
  ExpectRead(10, kSoon * 2);
}

TEST_P(FrameLimitsTest, WhatIsDeniedForAnotherReasonStaysDeniedAndChangesNothing) {
  Start(kJumbo, kJumbo, kJumbo);
  Options options = stack_.DefaultOptions();
  options.engine.protocol = GetParam();
  options.size_bytes = 4 * Stack::kSize;  // more than the node has
  TloeChannel& channel = stack_.Connect(std::move(options));
  channel_ = &channel;
  std::vector<std::byte> buffer(64 << 10);
  Submit(Op::kRead, Stack::kSize - 4096, buffer, 1);
  stack_.Run(Duration::Milliseconds(100));
  EXPECT_EQ(stack_.Result(1).code, Code::kDenied);
  EXPECT_EQ(channel.largest_message_size(), 13);
}

INSTANTIATE_TEST_SUITE_P(Protocols, FrameLimitsTest,
                         testing::Values(tloe::Protocol::k11, tloe::Protocol::k103),
                         [](const auto& protocol) {
                           return protocol.param == tloe::Protocol::k11 ? "V11" : "V103";
                         });

// Which protocols the two ends have is told, not waited for.
TEST(ProtocolMismatch, IsNamedAtOnceInBothDirections) {
  for (const auto mine : {tloe::Protocol::k11, tloe::Protocol::k103}) {
    Stack stack;
    node::NodeConfig config;
    config.protocol = mine == tloe::Protocol::k11 ? tloe::Protocol::k103 : tloe::Protocol::k11;
    stack.StartNode(config);
    Options options = stack.DefaultOptions();
    options.engine.protocol = mine;
    TloeChannel& channel = stack.AddChannel(std::move(options));
    stack.Run(Duration::Milliseconds(5));
    EXPECT_FALSE(channel.connected());
    const std::string health(channel.health().message());
    EXPECT_NE(health.find(mine == tloe::Protocol::k11
                              ? "speaks OmniXtend 1.0.3 only (add protocol=1.0.3)"
                              : "speaks OmniXtend 1.1 only (leave protocol=1.0.3 out)"),
              std::string::npos)
        << health;
  }
}

}  // namespace
}  // namespace oxmem::channel
