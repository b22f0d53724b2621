#include "tests/contract/contract_test.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>

namespace oxmem::transport {
namespace {

constexpr Duration kPatience = Duration::Seconds(20);

}  // namespace

uint64_t TestSeed() {
  const char* text = std::getenv("OXMEM_SEED");
  return text == nullptr ? 20240229 : std::strtoull(text, nullptr, 0);
}

void ChannelContract::Open(const HarnessOptions& options) {
  SCOPED_TRACE(GetParam().name);
  harness_.reset();
  std::string why_not;
  harness_ = GetParam().make(options, &why_not);
  if (harness_ == nullptr) GTEST_SKIP() << GetParam().name << ": " << why_not;
}

uint64_t ChannelContract::Length(uint64_t length) {
  const uint64_t alignment = channel().limits().alignment_bytes;
  const uint64_t most = channel().limits().largest_request_bytes / alignment * alignment;
  return std::min((length + alignment - 1) / alignment * alignment, most);
}

uint64_t ChannelContract::RandomOffset(uint64_t length) {
  const uint64_t alignment = channel().limits().alignment_bytes;
  return RandomBelow(size() - length + 1) / alignment * alignment;
}

void ChannelContract::TearDown() {
  if (HasFailure()) {
    std::printf("repeat with OXMEM_SEED=%llu\n", static_cast<unsigned long long>(TestSeed()));
  }
  harness_.reset();
}

std::size_t ChannelContract::PollOnce(std::span<Completion> completions) {
  harness_->Pump();
  return channel().Poll(completions);
}

void ChannelContract::Sleep(Instant until) {
  std::array<pollfd, 2> entries = {pollfd{.fd = channel().event_fd(), .events = POLLIN},
                                   pollfd{.fd = harness_->peer_fd(), .events = POLLIN}};
  const Instant wake = std::min({until, channel().next_deadline(), harness_->peer_deadline()});
  poll(entries.data(), entries.size(), PollTimeoutMs(Now(), wake));
}

std::size_t ChannelContract::PollOrSleep(std::span<Completion> completions) {
  if (gave_up_) return 0;  // one wait is enough to know
  const Instant give_up = Now() + kPatience;
  while (true) {
    const std::size_t count = PollOnce(completions);
    if (count != 0) return count;
    if (Now() > give_up) break;
    if (channel().Arm()) Sleep(give_up);
  }
  gave_up_ = true;
  ADD_FAILURE() << "nothing completed for " << kPatience.seconds()
                << " s; health: " << channel().health();
  return 0;
}

std::vector<Completion> ChannelContract::RunAll(std::vector<Request> requests) {
  std::map<uint64_t, int> open;
  for (const Request& request : requests) ++open[request.cookie];
  std::vector<Completion> all;
  std::size_t submitted = 0;
  std::array<Completion, 16> completions;
  while (all.size() < requests.size()) {
    if (submitted < requests.size()) {
      const std::size_t taken = channel().Submit(std::span(requests).subspan(submitted));
      EXPECT_LE(taken, requests.size() - submitted);
      submitted += taken;
    }
    EXPECT_LE(submitted - all.size(), channel().limits().depth);
    const std::size_t count = PollOrSleep(completions);
    if (count == 0) return all;
    for (const Completion& completion : std::span(completions).first(count)) {
      EXPECT_EQ(open[completion.cookie]--, 1) << "cookie " << completion.cookie;
      all.push_back(completion);
    }
  }
  EXPECT_EQ(PollOnce(completions), 0u) << "more completions than requests";
  return all;
}

std::vector<Request> ChannelContract::Reads(uint64_t count, uint64_t length) {
  length = Length(length);
  std::vector<Request> requests;
  for (uint64_t i = 0; i < count; ++i) {
    std::byte* buffer = read_buffers_.emplace_back(length).data();
    requests.push_back({.op = Op::kRead, .length = length, .buffer = buffer, .cookie = i});
  }
  return requests;
}

Completion ChannelContract::RunOne(Request request) {
  request.cookie = 0xc0ffee;
  const auto completions = RunAll({request});
  return completions.empty() ? Completion{.code = Code::kFailed} : completions.front();
}

void ChannelContract::Write(uint64_t offset, std::span<const std::byte> bytes) {
  const Completion completion = RunOne({.op = Op::kWrite,
                                        .offset = offset,
                                        .length = bytes.size(),
                                        .buffer = const_cast<std::byte*>(bytes.data())});
  ASSERT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
  ASSERT_EQ(completion.bytes, bytes.size());
}

std::vector<std::byte> ChannelContract::Read(uint64_t offset, uint64_t length) {
  std::vector<std::byte> bytes(length);
  const Completion completion =
      RunOne({.op = Op::kRead, .offset = offset, .length = length, .buffer = bytes.data()});
  EXPECT_EQ(completion.code, Code::kOk) << CodeName(completion.code);
  EXPECT_EQ(completion.bytes, length);
  return bytes;
}

std::vector<std::byte> ChannelContract::RandomBytes(std::size_t count) {
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random_());
  return bytes;
}

}  // namespace oxmem::transport
