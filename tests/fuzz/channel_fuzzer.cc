// A requester channel whose endpoint does as the input says: answers of any kind, in any order, or
// none, changed frames, restarts. Every request must complete exactly once, after the close at the
// latest; its buffer must not be touched after that; and as long as the endpoint kept to the
// protocol, what was read is right.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "oxmem/channel/tloe_channel.h"
#include "oxmem/tloe/engine.h"
#include "oxmem/tloe/frame.h"
#include "spdlog/spdlog.h"
#include "tests/fuzz/byte_source.h"
#include "tests/fuzz/feed_link.h"
#include "transport/base/check.h"

namespace {

using oxmem::Duration;
using oxmem::Instant;
using oxmem::channel::Options;
using oxmem::channel::TloeChannel;
using oxmem::fuzz::ByteSource;
using oxmem::fuzz::FeedLink;
using oxmem::tilelink::Channel;
using oxmem::tilelink::DecodedMessage;
using oxmem::tilelink::MakeD;
using oxmem::tilelink::Message;
using oxmem::tilelink::OpcodeA;
using oxmem::tilelink::OpcodeD;
using oxmem::tloe::Engine;
using oxmem::tloe::EngineConfig;
using oxmem::tloe::Protocol;
using oxmem::tloe::Role;
using oxmem::transport::AtomicOp;
using oxmem::transport::Code;
using oxmem::transport::Completion;
using oxmem::transport::Op;
using oxmem::transport::Request;

// A channel says when it loses its endpoint.
const bool kQuiet = (spdlog::set_level(spdlog::level::off), true);

constexpr std::size_t kFrameBytes = 600;
constexpr uint64_t kSize = 1 << 16;
constexpr uint64_t kBase = 0x40000000;
constexpr std::size_t kLongest = 2048;
constexpr uint32_t kDepth = 8;

// What lies at an address of the endpoint, whatever was written there.
std::byte ByteAt(uint64_t address) { return static_cast<std::byte>(address * 37 >> 3); }

class Driver {
 public:
  explicit Driver(ByteSource& input) : input_(input), endpoint_(EndpointConfig(input)) {
    Options options;
    options.size_bytes = kSize;
    options.base_address = kBase;
    options.depth = kDepth;
    options.largest_request_bytes = kLongest;
    options.request_timeout = Duration::Milliseconds(50);
    options.engine = endpoint_.config();
    auto link = std::make_unique<FeedLink>(kFrameBytes);
    link_ = link.get();
    auto channel = TloeChannel::Start(std::move(link), Endpoint(), std::move(options), now_);
    OXMEM_CHECK(channel.ok());
    channel_ = *std::move(channel);
    Exchange();
  }

  void Run() {
    for (int step = 0; step < 100 && !input_.empty(); ++step) Act();
    channel_->CloseAt(now_);
    for (uint32_t i = 0; i <= kDepth && !buffers_.empty(); ++i) Poll();
    OXMEM_CHECK(buffers_.empty());
  }

 private:
  static oxmem::link::Address Endpoint() {
    oxmem::link::Address address;
    address.bytes[0] = 1;
    return address;
  }

  static EngineConfig EndpointConfig(ByteSource& input) {
    EngineConfig config;
    config.role = Role::kResponder;
    config.protocol = (input.Byte() & 1) != 0 ? Protocol::k103 : Protocol::k11;
    config.max_frame_bytes = kFrameBytes;
    config.window_frames = 8;
    config.resend_buffer_bytes = 9 * 1024;
    config.receive_flits = {256, 128, 128, 256, 128};
    return config;
  }

  void Act() {
    switch (input_.Below(10)) {
      case 0:
      case 1:
        Submit();
        break;
      case 2:
      case 3:
        while (!asked_.empty() && AnswerFirst()) {
        }
        Exchange();
        break;
      case 4:
        AnswerWrongly();
        break;
      case 5:
        Change();
        break;
      case 6:
        honest_ = false;
        link_->Feed(Endpoint(), input_.Bytes(input_.Byte() * std::size_t{2}));
        Poll();
        break;
      case 7:
        Wait(Duration::Microseconds(input_.Short()));
        break;
      case 8:
        Restart();
        break;
      default:
        Exchange();
        break;
    }
  }

  void Submit() {
    const uint8_t kind = input_.Byte();
    constexpr std::array<Op, 8> kOps = {Op::kRead,  Op::kRead,   Op::kRead, Op::kWrite,
                                        Op::kFlush, Op::kAtomic, Op::kZero, Op::kPrefetch};
    Request request;
    request.op = kOps[kind & 7];
    request.atomic_op = static_cast<AtomicOp>((kind >> 3) % oxmem::transport::kAtomicOpCount);
    request.offset = input_.Short();
    request.length = request.op == Op::kAtomic ? 8 : input_.Short() % (kLongest + 1);
    if (request.op == Op::kAtomic) request.offset &= ~uint64_t{7};
    if (request.op == Op::kFlush) request.offset = request.length = 0;
    request.cookie = next_cookie_;
    Buffer buffer{request, std::vector<std::byte>(request.length)};
    request.buffer = buffer.bytes.data();
    if (channel_->SubmitAt(now_, {&request, 1}) == 0) return;
    buffers_.emplace(next_cookie_++, std::move(buffer));
    Exchange();
  }

  // As a node would. False if there is no room for it now.
  bool AnswerFirst() {
    const Message& asked = asked_.front();
    Message answer = MakeD(OpcodeD::kAccessAck, asked.size, asked.source);
    switch (static_cast<OpcodeA>(asked.opcode)) {
      case OpcodeA::kGet:
      case OpcodeA::kArithmeticData:
      case OpcodeA::kLogicalData:
        answer.opcode = static_cast<uint8_t>(OpcodeD::kAccessAckData);
        break;
      case OpcodeA::kIntent:
        answer.opcode = static_cast<uint8_t>(OpcodeD::kHintAck);
        break;
      default:
        break;
    }
    answer.address = asked.address;
    if (!Say(answer)) return false;
    asked_.pop_front();
    return true;
  }

  void AnswerWrongly() {
    honest_ = false;
    const uint8_t kind = input_.Byte();
    Message answer;
    answer.channel = (kind & 0xf0) == 0 ? oxmem::tilelink::ChannelAt(input_.Below(5)) : Channel::kD;
    answer.opcode = answer.channel == Channel::kE ? 0 : kind & 7;
    if (!oxmem::tilelink::IsKnown(answer)) answer.opcode = 0;
    if (answer.channel != Channel::kE) {
      answer.size = input_.Byte() % 10;
      answer.source = asked_.empty() || (kind & 8) != 0 ? input_.Byte() : asked_.front().source;
      answer.denied = answer.channel == Channel::kD && (kind & 0x10) != 0;
      answer.corrupt = (kind & 0x20) != 0;
    }
    Say(answer);
    Exchange();
  }

  bool Say(const Message& message) {
    const std::size_t bytes = oxmem::tilelink::DataBytes(message);
    std::vector<std::byte> data(bytes);
    for (std::size_t i = 0; i < bytes; ++i) data[i] = ByteAt(message.address + i);
    const std::vector<uint64_t> mask(oxmem::tilelink::HasMask(message) ? (bytes + 63) / 64 : 0, 5);
    return endpoint_.Enqueue(message, {data, mask});
  }

  // The endpoint's next frames, with some of their bytes changed, or lost, or twice.
  void Change() {
    honest_ = false;
    for (;;) {
      const auto frame = endpoint_.NextFrame(now_);
      if (frame.empty()) break;
      std::vector<std::byte> bytes(frame.begin(), frame.end());
      const uint8_t how = input_.Byte();
      for (int change = how & 3; change > 0; --change) {
        bytes[input_.Short() % bytes.size()] = static_cast<std::byte>(input_.Byte());
      }
      if ((how & 4) != 0) bytes.resize(input_.Short() % (bytes.size() + 1));
      if ((how & 8) == 0) link_->Feed(Endpoint(), bytes);
      if ((how & 16) != 0) link_->Feed(Endpoint(), bytes);
    }
    Exchange();
  }

  void Restart() {
    asked_.clear();
    endpoint_.Reset();
    Exchange();
  }

  void Wait(Duration time) {
    now_ = now_ + time;
    if (endpoint_.next_deadline() <= now_) endpoint_.OnDeadline(now_);
    Exchange();
    // What is due at once, as the first attempt to open again is, is done when the owner looks; it
    // would spin otherwise.
    for (int looks = 0; looks < 2 && channel_->next_deadline() <= now_; ++looks) Exchange();
    OXMEM_CHECK(channel_->next_deadline() > now_);
  }

  void Exchange() {
    for (int round = 0; round < 50; ++round) {
      for (;;) {
        const auto frame = endpoint_.NextFrame(now_);
        if (frame.empty()) break;
        link_->Feed(Endpoint(), frame);
      }
      Poll();
      if (!Deliver()) return;
    }
  }

  bool Deliver() {
    const std::vector<FeedLink::Frame> frames = link_->TakeSent();
    for (const FeedLink::Frame& frame : frames) {
      OXMEM_CHECK(frame.bytes.size() <= kFrameBytes);
      OXMEM_CHECK(oxmem::tloe::ParseFrame(frame.bytes).has_value());
      if (endpoint_.OnFrame(now_, frame.bytes) == oxmem::tloe::FrameVerdict::kNewPeer) {
        Restart();
        endpoint_.OnFrame(now_, frame.bytes);
      }
      while (const DecodedMessage* request = endpoint_.NextMessage()) {
        OXMEM_CHECK(!honest_ || request->message.address - kBase < kSize);
        asked_.push_back(request->message);
      }
      endpoint_.Retain();
    }
    return !frames.empty();
  }

  void Poll() {
    std::array<Completion, 4> completions;
    for (;;) {
      const std::size_t count = channel_->PollAt(now_, completions);
      for (std::size_t i = 0; i < count; ++i) Complete(completions[i]);
      if (count < completions.size()) return;
    }
  }

  void Complete(const Completion& completion) {
    const auto found = buffers_.find(completion.cookie);
    OXMEM_CHECK(found != buffers_.end());
    const auto& [request, bytes] = found->second;
    if (honest_ && completion.code == Code::kOk && request.op == Op::kRead) {
      for (std::size_t i = 0; i < bytes.size(); ++i) {
        OXMEM_CHECK(bytes[i] == ByteAt(kBase + request.offset + i));
      }
    }
    buffers_.erase(found);
  }

  // The memory goes with the completion, and the address sanitizer knows.
  struct Buffer {
    Request request;
    std::vector<std::byte> bytes;
  };

  ByteSource& input_;
  Engine endpoint_;
  FeedLink* link_ = nullptr;  // the channel's
  std::unique_ptr<TloeChannel> channel_;
  std::deque<Message> asked_;
  std::map<uint64_t, Buffer> buffers_;  // by cookie
  uint64_t next_cookie_ = 1;
  Instant now_ = Instant::FromNanoseconds(1000000000);
  bool honest_ = true;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  ByteSource input(data, size);
  Driver(input).Run();
  return 0;
}
