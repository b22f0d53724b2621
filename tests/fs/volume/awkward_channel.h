#ifndef TESTS_FS_VOLUME_AWKWARD_CHANNEL_H_
#define TESTS_FS_VOLUME_AWKWARD_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "transport/api/channel.h"
#include "transport/api/source.h"
#include "transport/api/validate.h"
#include "transport/local/memory_source.h"

namespace oxmem::fs {

// A mem: channel with less generous limits, which carries a request out when it hands out the
// completion, in an order of its own, or as late as the test wants.
class AwkwardChannel final : public transport::Channel {
 public:
  struct Habits {
    uint64_t alignment_bytes = 1;
    uint64_t largest_request_bytes = 4096;
    uint32_t depth = 8;
    bool zero = false;
    bool read_only = false;
    uint32_t seed = 1;
  };

  AwkwardChannel(std::unique_ptr<transport::Channel> memory, const Habits& habits)
      : memory_(std::move(memory)), limits_(memory_->limits()), random_(habits.seed) {
    limits_.alignment_bytes = habits.alignment_bytes;
    limits_.largest_request_bytes = habits.largest_request_bytes;
    limits_.depth = habits.depth;
    limits_.zero = habits.zero;
    limits_.read_only = habits.read_only;
    limits_.local_memory.reset();
  }

  std::size_t Submit(std::span<const transport::Request> requests) override {
    std::size_t taken = 0;
    while (taken < requests.size() && held_.size() < limits_.depth) {
      const transport::Request& request = requests[taken++];
      EXPECT_EQ(transport::Validate(request, limits_), transport::Code::kOk);
      submitted_.push_back(request);
      held_.push_back(request);
    }
    return taken;
  }

  std::size_t Poll(std::span<transport::Completion> completions) override {
    std::size_t count = 0;
    while (count < completions.size() && !held_.empty() && release_ != 0) {
      if (release_ != kAll) --release_;
      const std::size_t pick = random_() % held_.size();
      const transport::Request request = held_[pick];
      held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(pick));
      completions[count++] = CarryOut(request);
    }
    return count;
  }

  bool Arm() override { return true; }
  int event_fd() const override { return -1; }
  Instant next_deadline() const override { return Instant::Never(); }
  void Close() override {}
  absl::StatusOr<transport::MemoryHandle> Register(std::span<std::byte> memory) override {
    return memory_->Register(memory);
  }
  const transport::Limits& limits() const override { return limits_; }
  const transport::ChannelStats& stats() const override { return memory_->stats(); }
  const std::string& name() const override { return memory_->name(); }
  absl::Status health() const override { return absl::OkStatus(); }

  static constexpr std::size_t kAll = ~std::size_t{0};
  // How many more completions may come out.
  void Release(std::size_t count) { release_ = count; }
  // The next request to be carried out of this offset fails.
  void FailAt(uint64_t offset, transport::Code code) { faults_.emplace_back(offset, code); }
  const std::vector<transport::Request>& submitted() const { return submitted_; }
  std::size_t held() const { return held_.size(); }

 private:
  transport::Completion CarryOut(transport::Request request) {
    for (const auto& [offset, code] : faults_) {
      if (offset == request.offset) return {.cookie = request.cookie, .code = code};
    }
    EXPECT_EQ(memory_->Submit(std::span<const transport::Request>(&request, 1)), 1u);
    transport::Completion completion;
    EXPECT_EQ(memory_->Poll(std::span<transport::Completion>(&completion, 1)), 1u);
    return completion;
  }

  std::unique_ptr<transport::Channel> memory_;
  transport::Limits limits_;
  std::mt19937 random_;
  std::deque<transport::Request> held_;
  std::vector<transport::Request> submitted_;
  std::vector<std::pair<uint64_t, transport::Code>> faults_;
  std::size_t release_ = kAll;
};

inline transport::MemorySource Memory(const std::string& size) {
  auto source = transport::ParseSource("mem:?size=" + size);
  EXPECT_TRUE(source.ok());
  auto memory = transport::MemorySource::Create(*source);
  EXPECT_TRUE(memory.ok());
  return *std::move(memory);
}

}  // namespace oxmem::fs

#endif  // TESTS_FS_VOLUME_AWKWARD_CHANNEL_H_
