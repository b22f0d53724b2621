// How requests go in and completions come out: exactly once, back-pressure, order of a flush,
// close, wake-ups, deadlines.

#include <poll.h>

#include <algorithm>
#include <array>
#include <set>

#include "tests/contract/contract_test.h"

namespace oxmem::transport {
namespace {

class Flow : public ChannelContract {};

TEST_P(Flow, LimitsAndNameAreSaneAndStable) {
  const Limits limits = channel().limits();
  EXPECT_EQ(limits.size_bytes, HarnessOptions().size_bytes);
  EXPECT_GE(limits.depth, 1u);
  EXPECT_GE(limits.alignment_bytes, 1u);
  EXPECT_GE(limits.largest_request_bytes, limits.alignment_bytes);
  EXPECT_FALSE(limits.read_only);
  EXPECT_FALSE(channel().name().empty());
  EXPECT_TRUE(channel().health().ok()) << channel().health();
  const std::string name = channel().name();
  const int fd = channel().event_fd();
  Write(0, RandomBytes(Length(64)));
  EXPECT_EQ(channel().name(), name);
  EXPECT_EQ(channel().event_fd(), fd);
  EXPECT_EQ(channel().limits().size_bytes, limits.size_bytes);
  EXPECT_EQ(channel().limits().depth, limits.depth);
}

TEST_P(Flow, NothingInNothingOut) {
  EXPECT_EQ(channel().Submit({}), 0u);
  std::array<Completion, 4> completions;
  EXPECT_EQ(PollOnce(completions), 0u);
  EXPECT_EQ(PollOnce({}), 0u);
}

TEST_P(Flow, EveryRequestCompletesExactlyOnceWithItsCookie) {
  constexpr uint64_t kRequests = 3000;
  const uint64_t most = Length(4096);
  // Writes may share their data; what a read fills is its own while it is under way.
  std::vector<std::byte> written(most);
  std::vector<std::byte> read(kRequests / 3 * most);
  std::vector<Request> requests;
  for (uint64_t i = 0; i < kRequests; ++i) {
    const uint64_t length = Length(RandomBelow(most) + 1);
    // Some of each kind, a few that must fail.
    const Op op = i % 3 == 0 ? Op::kRead : i % 3 == 1 ? Op::kWrite : Op::kFlush;
    const bool bad = i % 101 == 0;
    requests.push_back({.op = op,
                        .offset = bad ? size() : RandomOffset(length),
                        .length = length,
                        .buffer = op == Op::kRead ? read.data() + i / 3 * most : written.data(),
                        .cookie = i * 0x100000001u});
  }
  // What was read does not matter here. RunAll checks the cookies.
  for (const Completion& completion : RunAll(requests)) {
    const uint64_t i = completion.cookie / 0x100000001u;
    const bool bad = i % 101 == 0 && i % 3 != 2;
    ASSERT_EQ(completion.code, bad ? Code::kOutOfRange : Code::kOk) << i;
  }
}

TEST_P(Flow, AShortSubmitIsBackPressureAndNotAnError) {
  std::vector<std::byte> buffer(Length(4096));
  const uint32_t depth = channel().limits().depth;
  std::vector<Request> requests(
      std::size_t{depth} * 2 + 1,
      Request{.op = Op::kWrite, .length = buffer.size(), .buffer = buffer.data()});
  for (std::size_t i = 0; i < requests.size(); ++i) requests[i].cookie = i;
  const std::size_t first = channel().Submit(requests);
  EXPECT_GE(first, 1u) << "an idle channel takes something";
  EXPECT_LE(first, depth);
  // Without polling it fills up and then takes nothing; it may take more while it makes progress.
  std::size_t accepted = first;
  for (int i = 0; i < 1000 && accepted < depth; ++i) {
    const std::size_t more = channel().Submit(std::span(requests).subspan(accepted));
    accepted += more;
    if (more == 0) break;
  }
  EXPECT_LE(accepted, depth);
  std::set<uint64_t> seen;
  std::array<Completion, 7> completions;
  while (seen.size() < requests.size()) {
    const std::size_t count = PollOrSleep(completions);
    ASSERT_NE(count, 0u);
    for (const Completion& completion : std::span(completions).first(count)) {
      EXPECT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
      EXPECT_TRUE(seen.insert(completion.cookie).second);
    }
    accepted += channel().Submit(std::span(requests).subspan(accepted));
    ASSERT_LE(accepted - seen.size(), depth);
  }
}

TEST_P(Flow, ManySmallPollsHandOutTheSameAsOneLarge) {
  const uint64_t count = std::min<uint64_t>(channel().limits().depth, 8);
  const auto requests = Reads(count, 64);
  std::size_t accepted = 0;
  std::set<uint64_t> seen;
  while (seen.size() < count) {
    accepted += channel().Submit(std::span(requests).subspan(accepted));
    Completion completion;
    ASSERT_EQ(PollOrSleep({&completion, 1}), 1u);
    EXPECT_TRUE(seen.insert(completion.cookie).second);
  }
}

TEST_P(Flow, AFlushCompletesAfterEverythingAcceptedBeforeIt) {
  for (int round = 0; round < 20; ++round) {
    const uint64_t writes = std::min<uint64_t>((channel().limits().depth - 1) / 2, 16);
    if (writes == 0) GTEST_SKIP() << "depth " << channel().limits().depth << " is too small";
    std::vector<std::byte> buffer(Length(3000));
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 2 * writes + 1; ++i) {
      requests.push_back({.op = i == writes ? Op::kFlush : Op::kWrite,
                          .offset = i * buffer.size(),
                          .length = buffer.size(),
                          .buffer = buffer.data(),
                          .cookie = i});
    }
    const auto completions = RunAll(requests);
    uint64_t before = 0;
    for (const Completion& completion : completions) {
      ASSERT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
      if (completion.cookie == writes) break;
      before += completion.cookie < writes ? 1 : 0;
    }
    ASSERT_EQ(before, writes) << "the flush overtook a write";
  }
}

TEST_P(Flow, FlushesAreFineAloneAndInARow) {
  std::vector<Request> requests(5, Request{.op = Op::kFlush});
  for (std::size_t i = 0; i < requests.size(); ++i) requests[i].cookie = i;
  for (const Completion& completion : RunAll(requests)) EXPECT_EQ(completion.code, Code::kOk);
}

TEST_P(Flow, CloseCompletesEverythingAndRefusesWhatComesAfter) {
  std::vector<Request> requests = Reads(std::min<uint64_t>(channel().limits().depth, 32), 4096);
  for (std::size_t i = 1; i < requests.size(); i += 2) requests[i].op = Op::kFlush;
  const std::size_t accepted = channel().Submit(requests);
  channel().Close();
  channel().Close();
  std::set<uint64_t> seen;
  std::array<Completion, 5> completions;
  while (seen.size() < accepted) {
    const std::size_t count = PollOrSleep(completions);
    ASSERT_NE(count, 0u);
    for (const Completion& completion : std::span(completions).first(count)) {
      EXPECT_TRUE(seen.insert(completion.cookie).second);
      // What had been carried out before the close may say so.
      EXPECT_TRUE(completion.code == Code::kClosed || completion.code == Code::kOk)
          << CodeName(completion.code);
    }
  }
  for (const Op op : {Op::kRead, Op::kWrite, Op::kFlush}) {
    std::array<std::byte, 8> buffer{};
    EXPECT_EQ(RunOne({.op = op, .length = 8, .buffer = buffer.data()}).code, Code::kClosed);
  }
  EXPECT_EQ(channel().stats().in_flight.value(), 0u);
}

TEST_P(Flow, AChannelMayBeDestroyedWithRequestsUnderWay) {
  const auto requests = Reads(std::min<uint64_t>(channel().limits().depth, 16), 4096);
  EXPECT_GE(channel().Submit(requests), 1u);
  Open({});  // destroys the first; the sanitizers watch
  Write(0, RandomBytes(Length(16)));
}

// One request at a time is the pattern in which a lost wake-up shows: nothing else would wake the
// sleeper. PollOrSleep fails the test when its patience ends.
TEST_P(Flow, ArmThenPollLosesNoWakeUp) {
  std::vector<std::byte> buffer(Length(64));
  for (int i = 0; i < 500; ++i) {
    const Request request{.op = i % 2 == 0 ? Op::kWrite : Op::kRead,
                          .offset = RandomOffset(buffer.size()),
                          .length = buffer.size(),
                          .buffer = buffer.data()};
    ASSERT_EQ(channel().Submit({&request, 1}), 1u);
    Completion completion;
    ASSERT_EQ(PollOrSleep({&completion, 1}), 1u);
    ASSERT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
  }
}

TEST_P(Flow, ArmIsRefusedOrTheDescriptorIsReadableWhileCompletionsWait) {
  const auto requests = Reads(std::min<uint64_t>(channel().limits().depth, 4), 64);
  std::size_t left = 0;
  for (int round = 0; round < 50; ++round) {
    left += channel().Submit(requests);
    ASSERT_GE(left, 1u);
    Completion completion;
    while (left > 0) {
      ASSERT_EQ(PollOrSleep({&completion, 1}), 1u);
      --left;
      if (left == 0) break;
      // Others may wait inside. If the channel lets its owner sleep, something must still wake it,
      // which the next PollOrSleep shows.
      if (!channel().Arm()) {
        std::array<Completion, 1> more;
        const std::size_t count = PollOnce(more);
        ASSERT_LE(count, left);
        left -= count;
      }
    }
  }
}

TEST_P(Flow, AnIdleChannelLetsItsOwnerSleep) {
  Write(0, RandomBytes(Length(100)));
  // Whatever is still to be done (an acknowledgement, say) ends within a bounded time; then the
  // channel is armed, not readable, and its deadline lies ahead.
  const Instant give_up = Now() + Duration::Seconds(5);
  bool asleep = false;
  while (!asleep && Now() < give_up) {
    std::array<Completion, 1> completions;
    const Instant before = Now();
    ASSERT_EQ(PollOnce(completions), 0u);
    if (!channel().Arm()) continue;
    pollfd entry{.fd = channel().event_fd(), .events = POLLIN, .revents = 0};
    asleep = poll(&entry, 1, 1) == 0 && channel().next_deadline() > before;
  }
  EXPECT_TRUE(asleep) << "an idle channel keeps its owner awake";
}

TEST_P(Flow, ADeadlineThatWasServedMovesOn) {
  std::vector<std::byte> buffer(Length(512));
  for (int i = 0; i < 20; ++i) {
    const Request request{.op = Op::kWrite, .length = buffer.size(), .buffer = buffer.data()};
    ASSERT_EQ(channel().Submit({&request, 1}), 1u);
    Completion completion;
    ASSERT_EQ(PollOrSleep({&completion, 1}), 1u);
    const Instant before = Now();
    ASSERT_EQ(PollOnce({&completion, 1}), 0u);
    EXPECT_GT(channel().next_deadline(), before) << "Poll left a deadline that has passed";
  }
}

INSTANTIATE_TEST_SUITE_P(Channels, Flow, testing::ValuesIn(AllTransports()),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace oxmem::transport
