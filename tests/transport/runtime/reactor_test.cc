#include "transport/runtime/reactor.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "transport/base/status.h"
#include "transport/runtime/one_time_event.h"

namespace oxmem::transport {
namespace {

class FunctionTask final : public ReactorTask {
 public:
  explicit FunctionTask(std::function<void()> function) : function_(std::move(function)) {}
  void Run() override { function_(); }

 private:
  std::function<void()> function_;
};

std::unique_ptr<Reactor> MakeReactor(ReactorOptions options = {}) {
  auto reactor = Reactor::Create(std::move(options));
  EXPECT_TRUE(reactor.ok()) << reactor.status();
  return *std::move(reactor);
}

TEST(Reactor, RunsTasksOnItsOwnThreadInTheirOrder) {
  const auto reactor = MakeReactor();
  std::vector<int> order;
  OneTimeEvent done;
  std::vector<FunctionTask> tasks;
  for (int i = 0; i < 10; ++i) {
    tasks.emplace_back([&, i] {
      EXPECT_TRUE(reactor->on_thread());
      order.push_back(i);
      if (i == 9) done.Notify();
    });
  }
  for (FunctionTask& task : tasks) ASSERT_TRUE(reactor->Post(task));
  done.Wait();
  EXPECT_THAT(order, testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_FALSE(reactor->on_thread());
}

TEST(Reactor, CallWaitsForItsFunctionAndNests) {
  const auto reactor = MakeReactor();
  int value = 0;
  EXPECT_TRUE(reactor->Call([&] {
    EXPECT_TRUE(reactor->Call([&] { value = 1; }));
    EXPECT_EQ(value, 1);
    value = 2;
  }));
  EXPECT_EQ(value, 2);
}

TEST(Reactor, AFullQueueRefusesAndTakesAgainLater) {
  const auto reactor = MakeReactor({.queue_capacity = 4});
  OneTimeEvent blocked;
  OneTimeEvent release;
  FunctionTask blocker([&] {
    blocked.Notify();
    release.Wait();
  });
  ASSERT_TRUE(reactor->Post(blocker));
  blocked.Wait();
  std::atomic<int> run = 0;
  std::vector<FunctionTask> tasks(6, FunctionTask([&run] { ++run; }));
  int accepted = 0;
  for (FunctionTask& task : tasks) accepted += reactor->Post(task) ? 1 : 0;
  EXPECT_EQ(accepted, 4);
  EXPECT_FALSE(reactor->stopping());
  release.Notify();
  ASSERT_TRUE(reactor->Call([] {}));
  EXPECT_EQ(run, 4);
}

// One task at a time, each sent when the one before is done: the pattern in which the thread goes
// to sleep between any two, and a lost wake-up is a test that hangs.
TEST(Reactor, NoWakeUpIsLost) {
  for (const Duration spin : {Duration(), Duration::Microseconds(2)}) {
    const auto reactor = MakeReactor({.spin = spin});
    std::atomic<int> runs = 0;
    FunctionTask task([&runs] {
      ++runs;
      runs.notify_one();
    });
    for (int i = 0; i < 5000; ++i) {
      ASSERT_TRUE(reactor->Post(task));
      runs.wait(i);
      // A different moment in the other's way to sleep each time.
      for (int spins = 0; spins < i % 300; ++spins) {
        std::atomic_signal_fence(std::memory_order_seq_cst);
      }
    }
    ASSERT_TRUE(reactor->Call([] {}));  // the last run is over
  }
}

TEST(Reactor, ManyThreadsSendAndEveryTaskRunsOnce) {
  constexpr int kThreads = 4;
  constexpr int kTasks = 5000;
  const auto reactor = MakeReactor({.queue_capacity = 32});
  std::vector<int> counts(kThreads, 0);  // touched by the reactor's thread alone
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      FunctionTask task([&counts, thread] { ++counts[static_cast<std::size_t>(thread)]; });
      for (int i = 0; i < kTasks; ++i) {
        while (!reactor->Post(task)) std::this_thread::yield();
      }
      reactor->Call([] {});  // the task must outlive its runs
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(reactor->Call([] {}));
  EXPECT_THAT(counts, testing::Each(kTasks));
  EXPECT_GE(reactor->stats().tasks.value(), uint64_t{kThreads} * kTasks);
}

TEST(Reactor, WhatWasPostedBeforeAStopRunsAndWhatComesAfterIsRefused) {
  for (int round = 0; round < 100; ++round) {
    const auto reactor = MakeReactor({.queue_capacity = 16});
    std::atomic<int> run = 0;
    std::atomic<int> accepted = 0;
    FunctionTask task([&run] { ++run; });
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        while (!reactor->stopping()) accepted += reactor->Post(task) ? 1 : 0;
        for (int more = 0; more < 20; ++more) accepted += reactor->Post(task) ? 1 : 0;
      });
    }
    if (round % 2 == 0) std::this_thread::yield();
    reactor->Stop();
    for (std::thread& thread : threads) thread.join();
    reactor->Wait();
    ASSERT_EQ(run, accepted);
    EXPECT_FALSE(reactor->Post(task));
    EXPECT_FALSE(reactor->Call([] {}));
  }
}

TEST(Reactor, StopFromATaskIsFine) {
  const auto reactor = MakeReactor();
  FunctionTask task([&] { reactor->Stop(); });
  ASSERT_TRUE(reactor->Post(task));
  reactor->Wait();
}

TEST(Reactor, DescriptorsOfOthersAreWatchedUntilUnwatched) {
  const auto reactor = MakeReactor();
  std::array<int, 2> pipe_fds;
  ASSERT_EQ(pipe2(pipe_fds.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(pipe_fds[0]);
  const UniqueFd writer(pipe_fds[1]);
  std::string seen;
  std::atomic<int> count = 0;
  ASSERT_TRUE(reactor->Call([&] {
    const absl::Status status = reactor->Watch(reader.get(), EPOLLIN, [&](uint32_t events) {
      EXPECT_EQ(events, uint32_t{EPOLLIN});
      char byte = 0;
      if (read(reader.get(), &byte, 1) != 1) return;
      seen += byte;
      if (byte == 'z') reactor->Unwatch(reader.get());
      ++count;
      count.notify_all();
    });
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(ErrnoOf(reactor->Watch(-1, EPOLLIN, [](uint32_t) {})), EBADF);
  }));
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(write(writer.get(), "az" + (i == 2 ? 1 : 0), 1), 1);
    while (count <= i) count.wait(count.load());
  }
  ASSERT_EQ(write(writer.get(), "b", 1), 1);
  ASSERT_TRUE(reactor->Call([] {}));
  EXPECT_EQ(seen, "aaz") << "nothing is called back after Unwatch";
}

// While other work keeps the thread from sleeping, descriptors still have their turn.
TEST(Reactor, DescriptorsAreNotStarvedByTasks) {
  const auto reactor = MakeReactor();
  std::array<int, 2> pipe_fds;
  ASSERT_EQ(pipe2(pipe_fds.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(pipe_fds[0]);
  const UniqueFd writer(pipe_fds[1]);
  std::atomic<bool> read_it = false;
  FunctionTask* again = nullptr;
  FunctionTask busy([&] {
    if (!read_it) reactor->Post(*again);
  });
  again = &busy;
  ASSERT_TRUE(reactor->Call([&] {
    EXPECT_TRUE(reactor
                    ->Watch(reader.get(), EPOLLIN,
                            [&](uint32_t) {
                              reactor->Unwatch(reader.get());
                              read_it = true;
                              read_it.notify_one();
                            })
                    .ok());
  }));
  ASSERT_TRUE(reactor->Post(busy));
  ASSERT_EQ(write(writer.get(), "x", 1), 1);
  read_it.wait(false);
  reactor->Stop();
  reactor->Wait();
}

// Counts what the reactor does with it.
class TimedPollable final : public Pollable {
 public:
  explicit TimedPollable(Duration period) : period_(period), due_(Now() + period) {}
  bool Poll() override {
    if (Now() < due_) return false;
    late = Now() - due_ > late ? Now() - due_ : late;
    due_ = Now() + period_;
    ++fired;
    fired.notify_all();
    return true;
  }
  bool Arm() override { return true; }
  int event_fd() const override { return -1; }
  Instant next_deadline() const override { return due_; }
  void Close() override { closed = true; }
  bool finished() const override { return !closed || ++asked_ > 3; }

  std::atomic<int> fired = 0;
  Duration late;
  bool closed = false;

 private:
  const Duration period_;
  Instant due_;
  mutable int asked_ = 0;
};

TEST(Reactor, DeadlinesAreServedToTheNanosecondAndNotInABusyLoop) {
  const auto reactor = MakeReactor();
  auto owned = std::make_unique<TimedPollable>(Duration::Microseconds(300));
  TimedPollable* const pollable = owned.get();
  ASSERT_TRUE(reactor->Call([&] { EXPECT_TRUE(reactor->Add(std::move(owned)).ok()); }));
  while (pollable->fired < 30) pollable->fired.wait(pollable->fired.load());
  int fired = 0;
  uint64_t rounds = 0;
  ASSERT_TRUE(reactor->Call([&] {
    fired = pollable->fired;
    rounds = reactor->stats().rounds.value();
  }));
  EXPECT_LT(rounds, static_cast<uint64_t>(fired) * 8 + 50) << "the thread does not sleep";
}

TEST(Reactor, StopDrivesEverythingUntilItHasFinished) {
  const auto reactor = MakeReactor();
  ASSERT_TRUE(reactor->Call([&] {
    EXPECT_TRUE(reactor->Add(std::make_unique<TimedPollable>(Duration::Microseconds(50))).ok());
  }));
  reactor->Stop();
  reactor->Wait();
}

TEST(Reactor, PollablesComeAndGo) {
  const auto reactor = MakeReactor();
  ASSERT_TRUE(reactor->Call([&] {
    std::vector<Pollable*> added;
    for (int i = 0; i < 5; ++i) {
      auto pollable = std::make_unique<TimedPollable>(Duration::Microseconds(10));
      added.push_back(pollable.get());
      EXPECT_TRUE(reactor->Add(std::move(pollable)).ok());
    }
    reactor->Remove(added[2]);
    reactor->Remove(added[0]);
    reactor->Remove(added[4]);
  }));
}

TEST(Reactor, RunsOnTheCpuItWasGivenUnderItsName) {
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  int cpu = 0;
  while (!CPU_ISSET(static_cast<unsigned>(cpu), &allowed)) ++cpu;
  const auto reactor = MakeReactor({.name = "a-very-long-thread-name", .cpu = cpu});
  ASSERT_TRUE(reactor->Call([&] {
    cpu_set_t mine;
    EXPECT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
    EXPECT_EQ(CPU_COUNT(&mine), 1);
    EXPECT_TRUE(CPU_ISSET(static_cast<unsigned>(cpu), &mine));
    std::array<char, 32> name{};
    pthread_getname_np(pthread_self(), name.data(), name.size());
    EXPECT_STREQ(name.data(), "a-very-long-thr");
  }));
}

TEST(Reactor, ACpuThatIsNotThereIsRefused) {
  for (const int cpu : {4095, 1000000}) {
    const auto reactor = Reactor::Create({.cpu = cpu});
    ASSERT_FALSE(reactor.ok());
    EXPECT_EQ(ErrnoOf(reactor.status()), EINVAL);
    EXPECT_THAT(std::string(reactor.status().message()),
                testing::HasSubstr("on CPU " + std::to_string(cpu)));
  }
}

TEST(Reactor, SpinningPutsOffSleep) {
  const auto reactor = MakeReactor({.spin = Duration::Seconds(100)});
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(reactor->Call([] {}));
  uint64_t sleeps = 1;
  ASSERT_TRUE(reactor->Call([&] { sleeps = reactor->stats().sleeps.value(); }));
  EXPECT_EQ(sleeps, 0u);
}

}  // namespace
}  // namespace oxmem::transport
