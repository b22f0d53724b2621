#ifndef TESTS_FUZZ_FEED_LINK_H_
#define TESTS_FUZZ_FEED_LINK_H_

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "oxmem/link/link.h"

namespace oxmem::fuzz {

// A link whose far end is the input: what is fed to it is received, what is sent on it is kept.
// Every frame lies in an allocation of its own length, which ends with the next Receive, so that
// the address sanitizer sees a read past its end or after its time.
class FeedLink final : public link::Link {
 public:
  struct Frame {
    link::Address peer;
    std::vector<std::byte> bytes;
  };

  explicit FeedLink(std::size_t max_frame_bytes) : max_frame_bytes_(max_frame_bytes) {}

  void Feed(const link::Address& from, std::span<const std::byte> bytes) {
    fed_.push_back({from, {bytes.begin(), bytes.end()}});
  }
  std::vector<Frame> TakeSent() { return std::exchange(sent_, {}); }

  absl::Status Send(std::span<const link::OutgoingFrame> frames) override {
    for (const link::OutgoingFrame& frame : frames) {
      sent_.push_back({frame.to, {frame.bytes.begin(), frame.bytes.end()}});
    }
    return absl::OkStatus();
  }
  std::size_t Receive(std::span<link::IncomingFrame> frames) override {
    received_.clear();
    const std::size_t count = std::min(frames.size(), fed_.size());
    const auto end = fed_.begin() + static_cast<std::ptrdiff_t>(count);
    received_.assign(std::make_move_iterator(fed_.begin()), std::make_move_iterator(end));
    fed_.erase(fed_.begin(), end);
    for (std::size_t i = 0; i < count; ++i) frames[i] = {received_[i].peer, received_[i].bytes};
    return count;
  }
  int fd() const override { return -1; }
  std::size_t max_frame_bytes() const override { return max_frame_bytes_; }
  const std::string& name() const override { return name_; }
  std::string FormatAddress(const link::Address& address) const override {
    return std::to_string(address.bytes[0]);
  }
  const link::Address& local_address() const override { return local_; }
  const link::LinkStats& stats() const override { return stats_; }
  absl::Status health() const override { return absl::OkStatus(); }

 private:
  const std::size_t max_frame_bytes_;
  const std::string name_ = "fed";
  link::Address local_;
  link::LinkStats stats_;
  std::vector<Frame> fed_;
  std::vector<Frame> received_;
  std::vector<Frame> sent_;
};

}  // namespace oxmem::fuzz

#endif  // TESTS_FUZZ_FEED_LINK_H_
