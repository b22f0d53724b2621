#include "apps/common/channel_wait.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <array>
#include <memory>
#include <string>

#include "transport/api/source.h"
#include "transport/base/check.h"
#include "transport/base/unique_fd.h"
#include "transport/compose/compose_source.h"
#include "transport/local/memory_source.h"

namespace oxmem::apps {
namespace {

using transport::Completion;
using transport::Op;
using transport::Request;

// Memory whose answers take a while.
std::unique_ptr<transport::Channel> Slow(const std::string& latency) {
  const auto source = transport::ParseSource("delay:(mem:?size=1M)?latency=" + latency);
  auto channel = transport::OpenComposed(*source, transport::OpenMemory);
  OXMEM_CHECK(channel.ok());
  return *std::move(channel);
}

class ChannelWait : public testing::Test {
 protected:
  void Read(transport::Channel& channel) {
    const Request request{.op = Op::kRead, .length = buffer_.size(), .buffer = buffer_.data()};
    ASSERT_EQ(channel.Submit(std::span(&request, 1)), 1u);
  }
  ChannelWaiter waiter_ = *ChannelWaiter::Create();
  std::array<std::byte, 64> buffer_{};
  std::array<Completion, 4> completions_;
};

TEST_F(ChannelWait, ReturnsWithTheCompletionHoweverItWaits) {
  const auto channel = Slow("5ms");
  for (const Duration spin : {Duration(), Duration::Microseconds(50), Duration::Seconds(1)}) {
    Read(*channel);
    const Instant before = Now();
    EXPECT_EQ(waiter_.Wait(*channel, completions_, spin, Instant::Never(), -1), 1u);
    EXPECT_EQ(completions_[0].code, transport::Code::kOk);
    EXPECT_GE((Now() - before).seconds(), 0.004);
  }
}

TEST_F(ChannelWait, GivesUpWhenTheTimeIsOverAndLeavesTheRequestUnderWay) {
  const auto channel = Slow("50ms");
  Read(*channel);
  const Instant until = Now() + Duration::Milliseconds(5);
  EXPECT_EQ(waiter_.Wait(*channel, completions_, Duration::Microseconds(50), until, -1), 0u);
  EXPECT_GE(Now(), until);
  EXPECT_EQ(waiter_.Wait(*channel, completions_, Duration::Microseconds(50), Instant::Never(), -1),
            1u);
}

TEST_F(ChannelWait, ReturnsWhenTheStopDescriptorIsReadable) {
  const auto channel = Slow("10s");
  Read(*channel);
  const UniqueFd stop(eventfd(1, EFD_CLOEXEC));
  const Instant before = Now();
  EXPECT_EQ(waiter_.Wait(*channel, completions_, Duration::Microseconds(50), Instant::Never(),
                         stop.get()),
            0u);
  EXPECT_LT((Now() - before).seconds(), 5.0);
  channel->Close();
  EXPECT_EQ(waiter_.Wait(*channel, completions_, Duration::Microseconds(50), Instant::Never(), -1),
            1u);
}

}  // namespace
}  // namespace oxmem::apps
