#ifndef TESTS_OXMEM_CHANNEL_STACK_H_
#define TESTS_OXMEM_CHANNEL_STACK_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "oxmem/channel/tloe_channel.h"
#include "oxmem/link/memory_link.h"
#include "oxmem/node/node.h"

namespace oxmem {

// A link that somebody else owns: a node can be destroyed and another one started on the same wire.
class BorrowedLink : public link::Link {
 public:
  explicit BorrowedLink(link::Link* link) : link_(link) {}
  absl::Status Send(std::span<const link::OutgoingFrame> frames) override {
    return link_->Send(frames);
  }
  std::size_t Receive(std::span<link::IncomingFrame> frames) override {
    return link_->Receive(frames);
  }
  int fd() const override { return link_->fd(); }
  std::size_t max_frame_bytes() const override { return link_->max_frame_bytes(); }
  const std::string& name() const override { return link_->name(); }
  std::string FormatAddress(const link::Address& address) const override {
    return link_->FormatAddress(address);
  }
  const link::Address& local_address() const override { return link_->local_address(); }
  const link::LinkStats& stats() const override { return link_->stats(); }
  absl::Status health() const override { return link_->health(); }

 private:
  link::Link* link_;
};

// A link of this MTU on a way that takes frames of `way_bytes`: longer ones are lost in both
// directions.
class NarrowLink final : public BorrowedLink {
 public:
  NarrowLink(link::Link* link, std::size_t mtu, std::size_t way_bytes)
      : BorrowedLink(link), mtu_(mtu), most_(std::min(mtu, way_bytes)) {}

  std::size_t max_frame_bytes() const override { return mtu_; }
  absl::Status Send(std::span<const link::OutgoingFrame> frames) override {
    std::vector<link::OutgoingFrame> passing(frames.begin(), frames.end());
    std::erase_if(passing, [this](const auto& frame) { return frame.bytes.size() > most_; });
    return BorrowedLink::Send(passing);
  }
  std::size_t Receive(std::span<link::IncomingFrame> frames) override {
    // None left while some were received would end the owner's loop too soon.
    for (;;) {
      const std::size_t count = BorrowedLink::Receive(frames);
      const auto end = std::remove_if(
          frames.begin(), frames.begin() + static_cast<std::ptrdiff_t>(count),
          [this](const link::IncomingFrame& frame) { return frame.bytes.size() > most_; });
      if (end != frames.begin() || count == 0) {
        return static_cast<std::size_t>(end - frames.begin());
      }
    }
  }

 private:
  std::size_t mtu_;
  std::size_t most_;
};

// Requesters and a node with 1 MiB at 0x40000000, and 64 KiB read-only at 0x80000000, on a network
// within the process and a clock that only Run moves.
class Stack {
 public:
  static constexpr uint64_t kBase = 0x40000000;
  static constexpr uint64_t kSize = 1 << 20;
  static constexpr uint64_t kFixedBase = 0x80000000;
  static constexpr Duration kTick = Duration::Microseconds(50);

  explicit Stack(std::size_t max_frame_bytes = 1500)
      : requester_mtu_(max_frame_bytes),
        node_mtu_(max_frame_bytes),
        way_bytes_(max_frame_bytes),
        network_({.max_frame_bytes = max_frame_bytes}),
        far_(network_.Attach()),
        memory_(kSize),
        fixed_(64 << 10) {}

  // Of the links to come; all are max_frame_bytes otherwise.
  void SetMtu(std::size_t requester, std::size_t node, std::size_t way) {
    requester_mtu_ = requester;
    node_mtu_ = node;
    way_bytes_ = way;
  }

  void StartNode(node::NodeConfig config = {}) {
    node::RegionMap regions;
    EXPECT_TRUE(regions.Add({.name = "data", .base = kBase, .memory = memory_}).ok());
    EXPECT_TRUE(
        regions.Add({.name = "fixed", .base = kFixedBase, .memory = fixed_, .read_only = true})
            .ok());
    node_ = std::make_unique<node::Node>(
        config, std::make_unique<NarrowLink>(far_.get(), node_mtu_, way_bytes_),
        std::move(regions));
  }
  // Gone without a word, as after kill -9; what is sent to it is lost.
  void KillNode() { node_.reset(); }
  void StopNode() {
    node_->Close(now_);
    KillNode();
  }

  channel::Options DefaultOptions() const {
    channel::Options options;
    options.size_bytes = kSize;
    options.base_address = kBase;
    return options;
  }

  // Not yet connected: Run.
  channel::TloeChannel& AddChannel(channel::Options options) {
    near_.push_back(network_.Attach());
    near_addresses_.push_back(near_.back()->local_address());
    auto channel = channel::TloeChannel::Start(
        std::make_unique<NarrowLink>(near_.back().get(), requester_mtu_, way_bytes_),
        far_->local_address(), std::move(options), now_);
    EXPECT_TRUE(channel.ok()) << channel.status();
    channels_.push_back(*std::move(channel));
    return *channels_.back();
  }
  channel::TloeChannel& Connect(channel::Options options) {
    auto& channel = AddChannel(std::move(options));
    Run(Duration::Milliseconds(5));
    EXPECT_TRUE(channel.connected());
    return channel;
  }

  // Lets everybody work for this long; completions are collected by cookie.
  void Run(Duration time) {
    for (const Instant end = now_ + time; now_ < end; now_ = now_ + kTick) {
      if (node_ != nullptr) {
        node_->Poll(now_);
      } else {
        DropAtNode();
      }
      for (const auto& channel : channels_) Collect(*channel);
    }
  }
  void Submit(channel::TloeChannel& channel, const transport::Request& request) {
    EXPECT_EQ(channel.SubmitAt(now_, {&request, 1}), 1u);
  }
  // The code of the request with this cookie; fails the test if it has not completed.
  transport::Completion Result(uint64_t cookie) const {
    const auto found = completions_.find(cookie);
    EXPECT_TRUE(found != completions_.end()) << "request " << cookie << " has not completed";
    return found == completions_.end() ? transport::Completion{} : found->second;
  }
  bool Completed(uint64_t cookie) const { return completions_.contains(cookie); }

  Instant now() const { return now_; }
  node::Node& node() { return *node_; }
  std::span<std::byte> memory() { return memory_; }
  const link::Address& near_address(std::size_t i) const { return near_addresses_[i]; }

 private:
  void Collect(channel::TloeChannel& channel) {
    transport::Completion completions[16];
    const std::size_t count = channel.PollAt(now_, completions);
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_TRUE(completions_.emplace(completions[i].cookie, completions[i]).second)
          << "request " << completions[i].cookie << " completed twice";
    }
  }
  void DropAtNode() {
    std::vector<link::IncomingFrame> frames(64);
    while (far_->Receive(frames) > 0) {
    }
  }

  std::size_t requester_mtu_;
  std::size_t node_mtu_;
  std::size_t way_bytes_;
  link::MemoryNetwork network_;
  std::unique_ptr<link::Link> far_;
  std::vector<std::byte> memory_;
  std::vector<std::byte> fixed_;
  std::unique_ptr<node::Node> node_;
  std::vector<link::Address> near_addresses_;
  std::vector<std::unique_ptr<link::Link>> near_;
  std::vector<std::unique_ptr<channel::TloeChannel>> channels_;
  std::map<uint64_t, transport::Completion> completions_;
  Instant now_ = Instant::FromNanoseconds(1000000000);
};

}  // namespace oxmem

#endif  // TESTS_OXMEM_CHANNEL_STACK_H_
