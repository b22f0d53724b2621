#include "oxmem/channel/tloe_channel.h"

#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/oxmem/channel/stack.h"

namespace oxmem::channel {
namespace {

using testing::HasSubstr;
using transport::AtomicOp;
using transport::Code;
using transport::Op;
using transport::Request;

Request Transfer(Op op, uint64_t offset, std::span<std::byte> buffer, uint64_t cookie) {
  Request request;
  request.op = op;
  request.offset = offset;
  request.length = buffer.size();
  request.buffer = buffer.data();
  request.cookie = cookie;
  return request;
}

Request FetchAdd(uint64_t offset, uint64_t operand, uint64_t cookie) {
  Request request;
  request.op = Op::kAtomic;
  request.atomic_op = AtomicOp::kAdd;
  request.offset = offset;
  request.length = 8;
  request.operand = operand;
  request.cookie = cookie;
  return request;
}

class TloeChannelTest : public testing::TestWithParam<tloe::Protocol> {
 protected:
  Options DefaultOptions() {
    Options options = stack_.DefaultOptions();
    options.engine.protocol = GetParam();
    return options;
  }

  Stack stack_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(64 << 10, std::byte{0x5a});
};

TEST_P(TloeChannelTest, ARestartedNodeIsNoticedAndWhatIsUnderWayIsSentAgain) {
  stack_.StartNode();
  TloeChannel& channel = stack_.Connect(DefaultOptions());
  stack_.Submit(channel, Transfer(Op::kWrite, 4096, buffer_, 1));
  stack_.Run(Duration::Milliseconds(50));
  ASSERT_EQ(stack_.Result(1).code, Code::kOk);

  stack_.KillNode();
  std::vector<std::byte> data(50000, std::byte{0x77});
  stack_.Submit(channel, Transfer(Op::kWrite, 100, data, 2));
  stack_.Run(Duration::Milliseconds(100));
  EXPECT_FALSE(stack_.Completed(2));
  stack_.StartNode();
  stack_.Run(Duration::Milliseconds(1500));
  EXPECT_EQ(stack_.Result(2).code, Code::kOk);
  EXPECT_EQ(std::memcmp(stack_.memory().data() + 100, data.data(), data.size()), 0);
  EXPECT_EQ(channel.stats().reconnects.value(), 1u);
  EXPECT_TRUE(channel.health().ok());
}

TEST_P(TloeChannelTest, ANodeThatRestartedBetweenTwoRequestsIsNoticedByTheSecond) {
  stack_.StartNode();
  TloeChannel& channel = stack_.Connect(DefaultOptions());
  for (uint64_t i = 0; i < 20; ++i) {
    stack_.Submit(channel, Transfer(Op::kWrite, 0, buffer_, i));
    stack_.Run(Duration::Milliseconds(20));
  }
  stack_.KillNode();
  stack_.StartNode();
  stack_.Run(Duration::Seconds(10));
  stack_.Submit(channel, Transfer(Op::kRead, 0, buffer_, 99));
  stack_.Run(Duration::Milliseconds(1500));
  EXPECT_EQ(stack_.Result(99).code, Code::kOk);
}

TEST_P(TloeChannelTest, AnAtomicThatMayHaveBeenAppliedIsNotSentAgain) {
  stack_.StartNode();
  TloeChannel& channel = stack_.Connect(DefaultOptions());
  stack_.KillNode();
  stack_.Submit(channel, FetchAdd(64, 7, 1));
  stack_.Run(Duration::Milliseconds(30));
  stack_.StartNode();
  stack_.Run(Duration::Milliseconds(1500));
  EXPECT_EQ(stack_.Result(1).code, Code::kPeerLost);
  EXPECT_EQ(stack_.memory()[64], std::byte{0});
  stack_.Submit(channel, FetchAdd(64, 7, 2));
  stack_.Run(Duration::Milliseconds(50));
  EXPECT_EQ(stack_.Result(2).code, Code::kOk);
  EXPECT_EQ(stack_.memory()[64], std::byte{7});
}

TEST_P(TloeChannelTest, ASilentNodeFailsRequestsAtTheirDeadlineAndIsNamed) {
  stack_.StartNode();
  Options options = DefaultOptions();
  options.request_timeout = Duration::Milliseconds(300);
  TloeChannel& channel = stack_.Connect(std::move(options));
  stack_.KillNode();
  stack_.Submit(channel, Transfer(Op::kRead, 0, buffer_, 1));
  stack_.Run(Duration::Milliseconds(290));
  EXPECT_FALSE(stack_.Completed(1));
  stack_.Run(Duration::Milliseconds(20));
  EXPECT_EQ(stack_.Result(1).code, Code::kTimedOut);
  EXPECT_THAT(std::string(channel.health().message()), HasSubstr("memory 1"));
  // Also while it is known to be away, and when it is back.
  stack_.Submit(channel, Transfer(Op::kRead, 0, buffer_, 2));
  stack_.Run(Duration::Milliseconds(310));
  EXPECT_EQ(stack_.Result(2).code, Code::kTimedOut);
  stack_.StartNode();
  stack_.Run(Duration::Milliseconds(1500));
  stack_.Submit(channel, Transfer(Op::kRead, 0, buffer_, 3));
  stack_.Run(Duration::Milliseconds(50));
  EXPECT_EQ(stack_.Result(3).code, Code::kOk);
}

TEST_P(TloeChannelTest, AStoppedNodeAndItsSuccessorLoseNothing) {
  stack_.StartNode();
  TloeChannel& channel = stack_.Connect(DefaultOptions());
  stack_.StopNode();
  stack_.Run(Duration::Milliseconds(10));
  stack_.Submit(channel, Transfer(Op::kWrite, 0, buffer_, 1));
  stack_.Run(Duration::Milliseconds(100));
  stack_.StartNode();
  stack_.Run(Duration::Milliseconds(1500));
  EXPECT_EQ(stack_.Result(1).code, Code::kOk);
}

TEST_P(TloeChannelTest, WhatTheNodeDeniesIsDenied) {
  stack_.StartNode();
  Options options = DefaultOptions();
  options.size_bytes = 4 * Stack::kSize;  // more than the node has
  TloeChannel& channel = stack_.Connect(std::move(options));
  stack_.Submit(channel, Transfer(Op::kRead, Stack::kSize - 4096, buffer_, 1));
  stack_.Submit(channel, Transfer(Op::kRead, 0, buffer_, 2));
  stack_.Run(Duration::Milliseconds(100));
  EXPECT_EQ(stack_.Result(1).code, Code::kDenied);
  EXPECT_EQ(stack_.Result(2).code, Code::kOk);
}

TEST_P(TloeChannelTest, AReadOnlyRegionCanBeReadAndRefusesWrites) {
  stack_.StartNode();
  Options options = DefaultOptions();
  options.base_address = Stack::kFixedBase;
  options.size_bytes = 64 << 10;
  TloeChannel& channel = stack_.Connect(std::move(options));
  stack_.Submit(channel, Transfer(Op::kRead, 0, buffer_, 1));
  stack_.Submit(channel, Transfer(Op::kWrite, 0, buffer_, 2));
  stack_.Submit(channel, FetchAdd(0, 1, 3));
  stack_.Run(Duration::Milliseconds(100));
  EXPECT_EQ(stack_.Result(1).code, Code::kOk);
  EXPECT_EQ(stack_.Result(2).code, Code::kDenied);
  EXPECT_EQ(stack_.Result(3).code, Code::kDenied);
}

TEST_P(TloeChannelTest, RequestersOnDifferentVirtualChannelsAndHostsShareANode) {
  stack_.StartNode();
  std::vector<TloeChannel*> channels;
  for (uint8_t i = 0; i < 12; ++i) {
    Options options = DefaultOptions();
    options.engine.virtual_channel = i % 8;
    channels.push_back(&stack_.Connect(std::move(options)));
  }
  std::vector<std::vector<std::byte>> data;
  for (uint8_t i = 0; i < 12; ++i) data.emplace_back(10000, static_cast<std::byte>(i + 1));
  for (uint64_t i = 0; i < 12; ++i) {
    stack_.Submit(*channels[i], Transfer(Op::kWrite, i * 10000, data[i], i));
  }
  stack_.Run(Duration::Milliseconds(100));
  for (uint64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(stack_.Result(i).code, Code::kOk);
    EXPECT_EQ(std::memcmp(stack_.memory().data() + i * 10000, data[i].data(), 10000), 0);
  }
  EXPECT_EQ(stack_.node().stats().connections.value(), 12u);
}

TEST_P(TloeChannelTest, ManyRequestsOfTheLargestSizeGoThroughASmallDepth) {
  stack_.StartNode();
  Options options = DefaultOptions();
  options.depth = 4;
  TloeChannel& channel = stack_.Connect(std::move(options));
  std::vector<std::byte> all(Stack::kSize);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::byte>(i * 7 + i / 4096);
  for (uint64_t i = 0; i < 4; ++i) {
    stack_.Submit(channel,
                  Transfer(Op::kWrite, i * (Stack::kSize / 4),
                           std::span(all).subspan(i * (Stack::kSize / 4), Stack::kSize / 4), i));
  }
  Request one_more = Transfer(Op::kRead, 0, buffer_, 5);
  EXPECT_EQ(channel.SubmitAt(stack_.now(), {&one_more, 1}), 0u) << "the channel is full";
  stack_.Run(Duration::Milliseconds(500));
  for (uint64_t i = 0; i < 4; ++i) EXPECT_EQ(stack_.Result(i).code, Code::kOk);
  EXPECT_EQ(std::memcmp(stack_.memory().data(), all.data(), all.size()), 0);
}

INSTANTIATE_TEST_SUITE_P(Protocols, TloeChannelTest,
                         testing::Values(tloe::Protocol::k11, tloe::Protocol::k103),
                         [](const auto& protocol) {
                           return protocol.param == tloe::Protocol::k11 ? "V11" : "V103";
                         });

// It is asked again at once, then after pauses that grow to a second, until a connection lasts.
// (With 1.0.3 nobody says that a connection ends.)
TEST(TloeChannelReopening, ANodeThatEndsEveryConnectionIsNotAskedWithoutEnd) {
  Stack stack;
  std::vector<std::byte> buffer(4096);
  stack.StartNode();
  TloeChannel& channel = stack.Connect(stack.DefaultOptions());
  for (const Instant end = stack.now() + Duration::Seconds(5); stack.now() < end;) {
    stack.Run(Stack::kTick);
    if (!channel.connected()) continue;
    stack.StopNode();
    stack.StartNode();
  }
  EXPECT_GE(channel.stats().reconnects.value(), 3u);
  EXPECT_LE(channel.stats().reconnects.value(), 15u);

  stack.Run(Duration::Seconds(3));
  ASSERT_TRUE(channel.connected());
  const uint64_t before = channel.stats().reconnects.value();
  stack.StopNode();
  stack.StartNode();
  stack.Submit(channel, Transfer(Op::kRead, 0, buffer, 1));
  stack.Run(Duration::Milliseconds(10));
  EXPECT_EQ(stack.Result(1).code, Code::kOk);
  EXPECT_EQ(channel.stats().reconnects.value(), before + 1);
}

TEST(TloeChannelOptions, WhatCannotWorkIsRefusedBeforeAnythingIsSent) {
  link::MemoryNetwork network;
  const auto start = [&network](const Options& wanted) {
    Options options;
    options.size_bytes = wanted.size_bytes;
    options.base_address = wanted.base_address;
    options.largest_message_size = wanted.largest_message_size;
    return std::string(
        TloeChannel::Start(network.Attach(), {}, std::move(options), Now()).status().message());
  };
  Options options;
  EXPECT_THAT(start(options), HasSubstr("0 bytes"));
  options.size_bytes = 4096;
  options.base_address = UINT64_MAX - 7;
  EXPECT_THAT(start(options), HasSubstr("past 2^64"));
  options.base_address = 0;
  options.largest_message_size = 12;
  EXPECT_THAT(start(options), HasSubstr("lower max_message or raise the MTU"));
}

TEST(TloeChannelOptions, NobodyThereIsOneLineThatSaysWhoAndWhere) {
  link::MemoryNetwork network;
  auto nobody = network.Attach();
  Options options;
  options.size_bytes = 4096;
  options.connect_timeout = Duration::Milliseconds(60);
  const auto channel =
      TloeChannel::Connect(network.Attach(), nobody->local_address(), std::move(options));
  EXPECT_THAT(std::string(channel.status().message()),
              testing::AllOf(HasSubstr("no answer from memory 1 on memory 2 within 0.06 s"),
                             testing::Not(HasSubstr("\n"))));
}

}  // namespace
}  // namespace oxmem::channel
