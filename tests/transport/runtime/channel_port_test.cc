#include "transport/runtime/channel_port.h"

#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/contract/async_channel.h"
#include "transport/compose/fault_channel.h"
#include "transport/compose/paced_channel.h"
#include "transport/local/memory_channel.h"
#include "transport/local/memory_source.h"

namespace oxmem::transport {
namespace {

std::unique_ptr<Channel> Memory(uint32_t depth = 16) {
  return std::make_unique<MemoryChannel>(*CreateMemory(1 << 20, HugePages::kNo),
                                         MemoryChannelOptions{.depth = depth});
}

struct Port {
  explicit Port(std::unique_ptr<Channel> channel, ReactorOptions options = {})
      : reactor(*Reactor::Create(std::move(options))),
        port(*ChannelPort::Add(*reactor, std::move(channel))) {}
  std::unique_ptr<Reactor> reactor;
  ChannelPort* port;
};

// Starts itself again from its completion until it has run `left` times.
class RepeatingRequest final : public PortRequest {
 public:
  void OnDone() override {
    failures += completion.code == Code::kOk ? 0 : 1;
    if (--left > 0 && port->Start(*this)) return;
    done = true;
    done.notify_all();
  }
  ChannelPort* port = nullptr;
  int left = 0;
  int failures = 0;
  std::atomic<bool> done = false;
};

TEST(ChannelPort, RequestsOfManyThreadsReachTheChannelAndComeBack) {
  const Port set_up(std::make_unique<AsyncChannel>(Memory(4)), {.queue_capacity = 8});
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  for (uint64_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 500; ++round) {
        std::array<std::byte, 64> sent;
        std::array<std::byte, 64> seen{};
        sent.fill(static_cast<std::byte>(round + static_cast<int>(i)));
        const uint64_t offset = i * 4096;
        const auto written = set_up.port->Run(
            {.op = Op::kWrite, .offset = offset, .length = 64, .buffer = sent.data(), .cookie = i});
        const auto read = set_up.port->Run(
            {.op = Op::kRead, .offset = offset, .length = 64, .buffer = seen.data(), .cookie = i});
        if (written.code != Code::kOk || read.code != Code::kOk || read.cookie != i ||
            seen != sent) {
          ++failures;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(set_up.port->stats().reads.value(), 2000u);
}

TEST(ChannelPort, AddsFromManyThreadsAllCount) {
  const Port set_up(Memory());
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 1000; ++n) {
        set_up.port->Run({.op = Op::kAtomic, .length = 8, .operand = 1});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(set_up.port->Run({.op = Op::kAtomic, .length = 8, .operand = 0}).old_value, 3000u);
}

TEST(ChannelPort, ARequestMayBeStartedAgainFromItsCompletion) {
  const Port set_up(std::make_unique<AsyncChannel>(Memory(2)));
  std::array<std::byte, 512> buffer;
  std::vector<RepeatingRequest> requests(8);
  for (RepeatingRequest& request : requests) {
    request.port = set_up.port;
    request.left = 500;
    request.request = {.op = Op::kRead, .length = buffer.size(), .buffer = buffer.data()};
    ASSERT_TRUE(set_up.port->Start(request));
  }
  for (RepeatingRequest& request : requests) {
    request.done.wait(false);
    EXPECT_EQ(request.left, 0);
    EXPECT_EQ(request.failures, 0);
  }
}

TEST(ChannelPort, TheChannelsDeadlinesAreServed) {
  const Port set_up(std::make_unique<PacedChannel>(
      Memory(), "delay", PacedOptions{.latency = Duration::Microseconds(200)}));
  const Instant start = Now();
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(set_up.port->Run({.op = Op::kFlush}).code, Code::kOk);
  }
  EXPECT_GE(Now() - start, Duration::Microseconds(20 * 200));
}

TEST(ChannelPort, AStopEndsWhatIsUnderWayAndWhatWaits) {
  auto fault = std::make_unique<FaultChannel>(Memory(2), FaultOptions{});
  fault->CutPeer();
  Port set_up(std::move(fault));
  std::vector<RepeatingRequest> requests(10);
  for (RepeatingRequest& request : requests) {
    request.port = set_up.port;
    request.left = 1;
    request.request = {.op = Op::kFlush};
    ASSERT_TRUE(set_up.port->Start(request));
  }
  set_up.reactor->Stop();
  set_up.reactor->Wait();
  for (const RepeatingRequest& request : requests) {
    EXPECT_TRUE(request.done);
    EXPECT_EQ(request.completion.code, Code::kClosed);
  }
}

TEST(ChannelPort, AThreadThatWaitsIsReleasedByAStop) {
  for (int round = 0; round < 50; ++round) {
    Port set_up(std::make_unique<AsyncChannel>(Memory(2)));
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        Code code = Code::kOk;
        while (code == Code::kOk) code = set_up.port->Run({.op = Op::kFlush}).code;
        EXPECT_EQ(code, Code::kClosed);
      });
    }
    set_up.reactor->Stop();
    for (std::thread& thread : threads) thread.join();
    set_up.reactor->Wait();
  }
}

TEST(ChannelPort, AReactorThatStoppedTakesNoChannel) {
  const auto reactor = *Reactor::Create({});
  reactor->Stop();
  reactor->Wait();
  EXPECT_FALSE(ChannelPort::Add(*reactor, Memory()).ok());
}

}  // namespace
}  // namespace oxmem::transport
