// A memory node and two peers of it. One of them does as the input says: requests of any kind, and
// frames that were changed, lost, repeated or never were any. The node must stay within its
// regions, leave read-only ones alone, and send frames only; and whatever the one peer does, the
// other gets one answer to each request, and the right one.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "oxmem/node/node.h"
#include "oxmem/tloe/engine.h"
#include "oxmem/tloe/frame.h"
#include "tests/fuzz/byte_source.h"
#include "tests/fuzz/feed_link.h"
#include "transport/base/check.h"

namespace {

using oxmem::Duration;
using oxmem::Instant;
using oxmem::fuzz::ByteSource;
using oxmem::fuzz::FeedLink;
using oxmem::node::Node;
using oxmem::node::NodeConfig;
using oxmem::node::Region;
using oxmem::node::RegionMap;
using oxmem::tilelink::Channel;
using oxmem::tilelink::DecodedMessage;
using oxmem::tilelink::Message;
using oxmem::tilelink::OpcodeA;
using oxmem::tilelink::OpcodeC;
using oxmem::tilelink::OpcodeD;
using oxmem::tloe::Engine;
using oxmem::tloe::EngineConfig;
using oxmem::tloe::Protocol;
using oxmem::tloe::State;

constexpr std::size_t kFrameBytes = 600;
constexpr std::size_t kRegionBytes = 4096;
constexpr std::array<uint64_t, 3> kBases = {0, 0x10000, ~uint64_t{0} - kRegionBytes + 1};
constexpr std::byte kFixed{0x5a};

EngineConfig SmallConfig() {
  EngineConfig config;
  config.max_frame_bytes = kFrameBytes;
  config.window_frames = 8;
  config.resend_buffer_bytes = 9 * 1024;
  config.receive_flits = {256, 128, 128, 256, 128};
  return config;
}

oxmem::link::Address AddressOf(std::size_t peer) {
  oxmem::link::Address address;
  address.bytes[0] = static_cast<uint8_t>(peer + 1);
  return address;
}

// Well-behaved by itself; what it asks for comes from the input.
class Peer {
 public:
  Peer(Protocol protocol, Instant now) : engine_(ConfigWith(protocol)) { engine_.Open(now); }

  Engine& engine() { return engine_; }

  void Ask(ByteSource& input) {
    const Message message = Request(input);
    const std::size_t bytes = oxmem::tilelink::DataBytes(message);
    if (bytes > data_.size() || asked_.count(message.source) != 0) return;
    const oxmem::tilelink::MemoryPayload payload = {std::span(data_).first(bytes),
                                                    oxmem::tilelink::HasMask(message)
                                                        ? std::span<const uint64_t>(masks_)
                                                        : std::span<const uint64_t>()};
    if (!engine_.Enqueue(message, payload)) return;
    const bool is_release =
        message.channel == Channel::kC && message.opcode >= static_cast<uint8_t>(OpcodeC::kRelease);
    if (message.channel == Channel::kA || is_release) asked_.emplace(message.source, message);
  }

  // False if an answer is one to nothing it asked for.
  bool TakeAnswers() {
    bool right = true;
    while (const DecodedMessage* answer = engine_.NextMessage()) {
      const auto found = asked_.find(answer->message.source);
      right = right && found != asked_.end() && Answers(found->second, *answer);
      if (found != asked_.end()) asked_.erase(found);
    }
    return right;
  }

  void Restart(Instant now) {
    engine_.Reset();
    asked_.clear();
    engine_.Open(now);
  }

 private:
  static EngineConfig ConfigWith(Protocol protocol) {
    EngineConfig config = SmallConfig();
    config.protocol = protocol;
    return config;
  }

  static Message Request(ByteSource& input) {
    const uint8_t kind = input.Byte();
    Message message;
    message.channel = (kind & 0xf8) == 0 ? oxmem::tilelink::ChannelAt(input.Below(5)) : Channel::kA;
    message.opcode = message.channel == Channel::kE ? 0 : kind & 7;
    if (!oxmem::tilelink::IsKnown(message)) message.opcode = 0;
    if (message.channel == Channel::kE) return message;
    const uint8_t shape = input.Byte();
    message.size = shape & 15;
    message.param = shape >> 4 & 7;
    message.corrupt = (kind & 0xf0) == 0xf0;
    message.source = input.Byte();
    message.address = Address(input, message.size);
    return message;
  }

  // Near the edges of the regions, and mostly aligned.
  static uint64_t Address(ByteSource& input, uint8_t size) {
    const uint8_t where = input.Byte();
    uint64_t address = kBases[where % kBases.size()];
    if ((where & 0x40) != 0) address += kRegionBytes;
    if ((where & 0x80) != 0) return address + input.Short() - 0x8000;
    return address + (static_cast<uint64_t>(input.Byte()) << size);
  }

  bool Answers(const Message& asked, const DecodedMessage& answer) const {
    const Message& got = answer.message;
    if (got.channel != Channel::kD || got.size != asked.size) return false;
    const bool wants_data = asked.opcode == static_cast<uint8_t>(OpcodeA::kGet) ||
                            asked.opcode == static_cast<uint8_t>(OpcodeA::kArithmeticData) ||
                            asked.opcode == static_cast<uint8_t>(OpcodeA::kLogicalData);
    if (got.denied || asked.channel != Channel::kA) return got.denied;
    // What was carried out lies in one region.
    const uint64_t length = uint64_t{1} << asked.size;
    const bool within = std::any_of(kBases.begin(), kBases.end(), [&](uint64_t base) {
      return asked.address >= base && asked.address - base <= kRegionBytes - length &&
             length <= kRegionBytes;
    });
    return within && wants_data == (got.opcode == static_cast<uint8_t>(OpcodeD::kAccessAckData));
  }

  Engine engine_;
  std::map<uint32_t, Message> asked_;  // by source
  std::array<std::byte, 512> data_{};
  std::array<uint64_t, 8> masks_{~uint64_t{0}, 5, 0, 0xff00, 1, 2, 3, 4};
};

class Driver {
 public:
  explicit Driver(ByteSource& input)
      : input_(input), data_(kRegionBytes), fixed_(kRegionBytes, kFixed), top_(kRegionBytes) {
    RegionMap regions;
    OXMEM_CHECK(regions.Add({.name = "data", .base = kBases[0], .memory = data_}).ok());
    OXMEM_CHECK(
        regions.Add({.name = "fixed", .base = kBases[1], .memory = fixed_, .read_only = true})
            .ok());
    OXMEM_CHECK(regions.Add({.name = "top", .base = kBases[2], .memory = top_}).ok());
    NodeConfig config;
    config.engine = SmallConfig();
    config.max_connections = 3;
    auto link = std::make_unique<FeedLink>(kFrameBytes);
    link_ = link.get();
    node_ = std::make_unique<Node>(config, std::move(link), std::move(regions));
    const uint8_t bits = input.Byte();
    for (const int bit : {1, 2}) {
      peers_.push_back(
          std::make_unique<Peer>((bits & bit) != 0 ? Protocol::k103 : Protocol::k11, now_));
    }
    Exchange();
  }

  void Run() {
    for (int step = 0; step < 100 && !input_.empty(); ++step) Act();
    Exchange();
    OXMEM_CHECK(
        std::all_of(fixed_.begin(), fixed_.end(), [](std::byte byte) { return byte == kFixed; }));
  }

 private:
  static constexpr std::size_t kHonest = 0;
  static constexpr std::size_t kHostile = 1;

  void Act() {
    switch (input_.Below(8)) {
      case 0:
      case 1:
        peers_[kHostile]->Ask(input_);
        break;
      case 2:
        peers_[kHonest]->Ask(input_);
        break;
      case 3:
        Exchange();
        break;
      case 4:
        Change();
        break;
      case 5:
        hostile_is_honest_ = false;
        link_->Feed(AddressOf(kHostile), input_.Bytes(input_.Byte() * std::size_t{2}));
        break;
      case 6:
        Wait(Duration::Microseconds(input_.Short()));
        break;
      default:
        // Answers to what it asked before may still come.
        hostile_is_honest_ = false;
        peers_[kHostile]->Restart(now_);
        break;
    }
  }

  // The hostile peer's next frames, with some of their bytes changed, or lost, or twice.
  void Change() {
    for (;;) {
      const auto frame = peers_[kHostile]->engine().NextFrame(now_);
      if (frame.empty()) break;
      std::vector<std::byte> bytes(frame.begin(), frame.end());
      const uint8_t how = input_.Byte();
      for (int change = how & 3; change > 0; --change) {
        bytes[input_.Short() % bytes.size()] = static_cast<std::byte>(input_.Byte());
      }
      if ((how & 4) != 0) bytes.resize(input_.Short() % (bytes.size() + 1));
      if ((how & 8) == 0) link_->Feed(AddressOf(kHostile), bytes);
      if ((how & 16) != 0) link_->Feed(AddressOf(kHostile), bytes);
    }
    hostile_is_honest_ = false;
    Exchange();
  }

  void Wait(Duration time) {
    now_ = now_ + time;
    for (const auto& peer : peers_) {
      if (peer->engine().next_deadline() <= now_) peer->engine().OnDeadline(now_);
    }
    Exchange();
  }

  // Until nobody has anything to say.
  void Exchange() {
    for (int round = 0; round < 50; ++round) {
      for (std::size_t peer = 0; peer < peers_.size(); ++peer) {
        for (;;) {
          const auto frame = peers_[peer]->engine().NextFrame(now_);
          if (frame.empty()) break;
          link_->Feed(AddressOf(peer), frame);
        }
      }
      const bool heard = node_->Poll(now_);
      const bool said = Deliver();
      if (!heard && !said) return;
    }
  }

  bool Deliver() {
    const std::vector<FeedLink::Frame> frames = link_->TakeSent();
    for (const FeedLink::Frame& frame : frames) {
      OXMEM_CHECK(frame.bytes.size() <= kFrameBytes);
      OXMEM_CHECK(oxmem::tloe::ParseFrame(frame.bytes).has_value());
      const std::size_t to = frame.peer.bytes[0] - std::size_t{1};
      OXMEM_CHECK(to < peers_.size());
      Engine& engine = peers_[to]->engine();
      const auto verdict = engine.OnFrame(now_, frame.bytes);
      OXMEM_CHECK(verdict != oxmem::tloe::FrameVerdict::kMalformed);
      const bool right = peers_[to]->TakeAnswers();
      OXMEM_CHECK(right || (to == kHostile && !hostile_is_honest_));
      engine.Retain();
    }
    return !frames.empty();
  }

  ByteSource& input_;
  std::vector<std::byte> data_;
  std::vector<std::byte> fixed_;
  std::vector<std::byte> top_;
  FeedLink* link_ = nullptr;  // the node's
  std::unique_ptr<Node> node_;
  std::vector<std::unique_ptr<Peer>> peers_;
  Instant now_ = Instant::FromNanoseconds(1000000000);
  bool hostile_is_honest_ = true;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  ByteSource input(data, size);
  Driver(input).Run();
  return 0;
}
