#include "oxmem/node/node.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "absl/strings/str_cat.h"
#include "oxmem/tloe/frame.h"
#include "oxmem/tloe/frame_header.h"
#include "oxmem/tloe/long_frames.h"
#include "transport/base/byte_order.h"

namespace oxmem::node {
namespace {

using tilelink::Channel;
using tilelink::DecodedMessage;

constexpr std::size_t kFrameBatch = 64;
// Peers with shorter frames that are remembered.
constexpr std::size_t kMostFrameLimits = 4096;
// Then a connection that is opened anew tries longer frames again.
constexpr Duration kFrameLimitLasts = Duration::Seconds(300);

// The protocol a stranger's frame begins a connection with; nothing if it does not begin one.
std::optional<tloe::Protocol> OpeningProtocol(const tloe::FrameHeader& header,
                                              const tloe::EngineConfig& config) {
  switch (header.type) {
    case tloe::FrameType::kOpen:
      return tloe::Protocol::k11;
    case tloe::FrameType::kNormal:
      // 1.0.3 has no opening: a connection just begins with the first number.
      if (header.sequence == tloe::SequenceNumber::FromWire(config.initial_sequence)) {
        return tloe::Protocol::k103;
      }
      return std::nullopt;
    case tloe::FrameType::kAckOnly:
    case tloe::FrameType::kClose:
      break;
  }
  return std::nullopt;
}

}  // namespace

struct Node::Connection {
  Connection(uint32_t id_in, const Key& key_in, const tloe::EngineConfig& config)
      : id(id_in), key(key_in), engine(config) {}

  uint32_t id;
  Key key;
  tloe::Engine engine;
  Instant last_frame;
  bool dirty = false;
  bool only_opened = true;    // nothing came from the peer after its opening
  tloe::EngineStats counted;  // what AddStats has added already
};

Node::Node(const NodeConfig& config, std::unique_ptr<link::Link> link, RegionMap regions)
    : config_(config),
      link_(std::move(link)),
      regions_(std::move(regions)),
      executor_(&regions_),
      allowed_(config.allowed.begin(), config.allowed.end()),
      incoming_(kFrameBatch) {
  config_.engine.role = tloe::Role::kResponder;
  config_.engine.max_frame_bytes = link_->max_frame_bytes();
  outgoing_.reserve(kFrameBatch);
}

Node::~Node() = default;

bool Node::Poll(Instant now) {
  const std::size_t count = link_->Receive(incoming_);
  for (std::size_t i = 0; i < count; ++i) OnFrame(now, incoming_[i]);
  while (deadlines_.soonest() <= now) {
    Connection& connection = *connections_[deadlines_.soonest_id()];
    connection.engine.OnDeadline(now);
    Serve(connection);
    MarkDirty(connection);
    deadlines_.Set(connection.id, Instant::Never());  // TakeFrames sets it again
  }
  FlushDirty(now);
  return count > 0;
}

void Node::Close(Instant now) {
  closing_ = true;
  for (const auto& connection : connections_) {
    if (connection == nullptr) continue;
    connection->engine.Close(now);
    MarkDirty(*connection);
  }
  FlushDirty(now);
}

void Node::OnFrame(Instant now, const link::IncomingFrame& frame) {
  if (frame.from == link_->local_address() || frame.from == link::Address()) {
    stats_.unknown_frames.Increment();  // nobody that could be answered
    return;
  }
  if (!allowed_.empty() && !allowed_.contains(frame.from)) {
    stats_.refused_address.Increment();
    LogRefusal(now, frame.from, "is not on the list of allowed addresses");
    return;
  }
  if (frame.bytes.size() < tloe::kFrameOverheadBytes) {
    stats_.malformed.Increment();
    return;
  }
  const tloe::FrameHeader header =
      tloe::DecodeFrameHeader(LoadBigEndian<uint64_t>(frame.bytes.data()));
  const Key key{frame.from, header.virtual_channel};
  if (Connection* connection = FindConnection(key)) {
    OnConnectionFrame(now, *connection, frame.bytes);
  } else {
    OnUnknownFrame(now, key, header, frame.bytes);
  }
}

void Node::OnConnectionFrame(Instant now, Connection& connection,
                             std::span<const std::byte> frame) {
  tloe::Engine& engine = connection.engine;
  connection.last_frame = now;
  const uint64_t before = engine.stats().frames_received.value();
  const tloe::FrameVerdict verdict = engine.OnFrame(now, frame);
  connection.only_opened =
      connection.only_opened && (before == 0 || verdict == tloe::FrameVerdict::kDuplicate);
  if (verdict == tloe::FrameVerdict::kNewPeer) {
    // The peer was restarted, perhaps with the other protocol.
    const Key key = connection.key;
    RemoveConnection(connection);
    OnUnknownFrame(now, key, tloe::DecodeFrameHeader(LoadBigEndian<uint64_t>(frame.data())), frame);
    return;
  }
  Serve(connection);
  engine.Retain();  // the frame's bytes belong to the link
  MarkDirty(connection);
}

void Node::OnUnknownFrame(Instant now, const Key& key, const tloe::FrameHeader& header,
                          std::span<const std::byte> frame) {
  // A peer that was just told goodbye opens again at once; nobody would serve it.
  if (closing_) return;
  const std::optional<tloe::Protocol> protocol = OpeningProtocol(header, config_.engine);
  if (!protocol || (config_.protocol && *config_.protocol != *protocol)) {
    stats_.unknown_frames.Increment();
    Refuse(key, header, frame);
    return;
  }
  Connection* connection = AddConnection(now, key, *protocol);
  if (connection != nullptr) OnConnectionFrame(now, *connection, frame);
}

// Tells a peer that believes in a connection from before this node's start that there is none.
void Node::Refuse(const Key& key, const tloe::FrameHeader& header,
                  std::span<const std::byte> frame) {
  tloe::EngineConfig config = config_.engine;
  // With 1.1 a peer sends such frames only after it got one; so this one speaks 1.0.3, and an
  // earlier frame of it got lost.
  const bool nothing_received =
      header.type == tloe::FrameType::kNormal &&
      header.acknowledged ==
          tloe::SequenceNumber::FromWire(config_.engine.initial_sequence).Previous();
  config.protocol =
      config_.protocol.value_or(nothing_received ? tloe::Protocol::k103 : tloe::Protocol::k11);
  config.virtual_channel = key.virtual_channel;
  std::array<std::byte, tloe::Engine::kRefusalBytes> bytes;
  const std::span<const std::byte> refusal = tloe::Engine::RefusalFor(config, frame, bytes);
  if (refusal.empty()) return;
  const link::OutgoingFrame outgoing{key.peer, refusal};
  link_status_ = link_->Send({&outgoing, 1});
}

Node::Connection* Node::FindConnection(const Key& key) {
  if (last_connection_ != nullptr && last_key_ == key) return last_connection_;
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  last_key_ = key;
  last_connection_ = connections_[found->second].get();
  return last_connection_;
}

Node::Connection* Node::AddConnection(Instant now, const Key& key, tloe::Protocol protocol) {
  if (by_key_.size() >= config_.max_connections) {
    // Openings that nobody completes, by the thousand perhaps, must not keep others out; a peer
    // that is there completes its own within a round trip.
    Connection* silent = LongestSilent(/*only_opened=*/true);
    if (silent == nullptr) {
      silent = LongestSilent(/*only_opened=*/false);
      if (silent != nullptr && now - silent->last_frame < config_.replace_after) silent = nullptr;
    }
    if (silent == nullptr) {
      stats_.refused_full.Increment();
      LogRefusal(now, key.peer,
                 absl::StrCat("finds all ", config_.max_connections, " connections in use"));
      return nullptr;
    }
    RemoveConnection(*silent);
  }
  uint32_t id = static_cast<uint32_t>(connections_.size());
  if (free_ids_.empty()) {
    connections_.emplace_back();
  } else {
    id = free_ids_.back();
    free_ids_.pop_back();
  }
  tloe::EngineConfig config = config_.engine;
  config.protocol = protocol;
  config.virtual_channel = key.virtual_channel;
  config.max_frame_bytes = link_->max_frame_bytes_to(key.peer);
  if (const auto limit = frame_limits_.find(key.peer); limit != frame_limits_.end()) {
    if (now < limit->second.until) {
      config.max_frame_bytes = std::min(config.max_frame_bytes, limit->second.bytes);
    } else {
      frame_limits_.erase(limit);  // the way may take longer ones by now
    }
  }
  connections_[id] = std::make_unique<Connection>(id, key, config);
  by_key_[key] = id;
  stats_.connections_opened.Increment();
  stats_.connections.Set(by_key_.size());
  return connections_[id].get();
}

// Only looked for when every connection is taken, so the walk costs no request.
Node::Connection* Node::LongestSilent(bool only_opened) {
  Connection* silent = nullptr;
  for (const auto& connection : connections_) {
    if (connection == nullptr || (only_opened && !connection->only_opened)) continue;
    if (silent == nullptr || connection->last_frame < silent->last_frame) silent = connection.get();
  }
  return silent;
}

void Node::RemoveConnection(Connection& connection) {
  AddStats(connection);
  deadlines_.Set(connection.id, Instant::Never());
  if (connection.dirty) std::erase(dirty_, connection.id);
  by_key_.erase(connection.key);
  last_connection_ = nullptr;
  free_ids_.push_back(connection.id);
  connections_[connection.id].reset();
  stats_.connections.Set(by_key_.size());
}

void Node::Serve(Connection& connection) {
  tloe::Engine& engine = connection.engine;
  constexpr std::size_t kHeaderFlits = 1;
  ExecutorLimits limits;
  const int log2_flits = std::bit_width(engine.max_message_flits() - kHeaderFlits) - 1;
  limits.largest_data_size = static_cast<uint8_t>(std::min(log2_flits + 3, 15));
  limits.allow_misaligned = engine.peer() == tloe::PeerProfile::kOxmemFuse;
  while (const DecodedMessage* next = engine.PeekMessage()) {
    if (!Executor::WantsAnswer(next->message)) {
      executor_.CountUnexpected();
      engine.NextMessage();
      continue;
    }
    const std::size_t flits = Executor::AnswerFlits(next->message, limits);
    if (!engine.CanEnqueue(Channel::kD, flits)) return;
    const DecodedMessage* request = engine.NextMessage();
    const Answer answer = executor_.Execute(*request, engine.data_order(), limits);
    engine.Enqueue(answer.message, answer.payload);
    if (!executor_.IsIntact(answer)) engine.SpoilLast();
  }
}

// The peer opens again, and what it asks for too much at a time then is denied without data.
void Node::LimitFrames(Instant now, const Connection& connection) {
  const std::size_t lost = connection.engine.lost_frame_bytes();
  const std::size_t limit = tloe::FrameBytesBelow(lost);
  if (frame_limits_.size() >= kMostFrameLimits) frame_limits_.clear();
  frame_limits_[connection.key.peer] = {limit, now + kFrameLimitLasts};
  const std::string peer = link_->FormatAddress(connection.key.peer);
  spdlog::error(
      "frames of {} bytes on {} do not reach {}, shorter ones do: it gets {} at most from now on "
      "(is the MTU there or on the way smaller? use one MTU everywhere, or listen with mtu={})",
      lost, link_->name(), peer, limit, limit);
}

void Node::ForgetFrameLimits() { frame_limits_.clear(); }

void Node::LogRefusal(Instant now, const link::Address& peer, std::string_view why) {
  uint64_t more = 0;
  if (!refusal_log_.Allow(now, &more)) return;
  spdlog::warn("{}: {} is refused: it {}{}", link_->name(), link_->FormatAddress(peer), why,
               more == 0 ? "" : absl::StrCat(" (and ", more, " frames before this)"));
}

void Node::MarkDirty(Connection& connection) {
  if (connection.dirty) return;
  connection.dirty = true;
  dirty_.push_back(connection.id);
}

void Node::FlushDirty(Instant now) {
  for (std::size_t i = 0; i < dirty_.size(); ++i) {
    connections_[dirty_[i]]->dirty = false;
    TakeFrames(now, *connections_[dirty_[i]]);
  }
  SendOutgoing();
  for (const uint32_t id : dirty_) {
    Connection& connection = *connections_[id];
    AddStats(connection);
    const tloe::State state = connection.engine.state();
    if (state == tloe::State::kFailed || state == tloe::State::kClosed) {
      const bool lost = state == tloe::State::kFailed &&
                        connection.engine.failure() != tloe::Failure::kPeerClosed;
      if (lost) stats_.connections_failed.Increment();
      if (connection.engine.failure() == tloe::Failure::kLongFramesLost) {
        LimitFrames(now, connection);
      }
      RemoveConnection(connection);
    }
  }
  dirty_.clear();
}

// The bytes of frames taken from the engine stay until the engine is used again, which is after
// SendOutgoing.
void Node::TakeFrames(Instant now, Connection& connection) {
  for (;;) {
    const std::span<const std::byte> frame = connection.engine.NextFrame(now);
    if (frame.empty()) break;
    if (outgoing_.size() == outgoing_.capacity()) SendOutgoing();
    outgoing_.push_back({connection.key.peer, frame});
  }
  deadlines_.Set(connection.id, connection.engine.next_deadline());
}

void Node::SendOutgoing() {
  if (outgoing_.empty()) return;
  link_status_ = link_->Send(outgoing_);
  outgoing_.clear();
}

void Node::AddStats(Connection& connection) {
  const tloe::EngineStats& now = connection.engine.stats();
  tloe::EngineStats& before = connection.counted;
  const auto add = [](Counter& sum, const Counter& current, Counter& counted) {
    sum.Add(current.value() - counted.value());
    counted = current;
  };
  add(stats_.frames_sent, now.frames_sent, before.frames_sent);
  add(stats_.frames_received, now.frames_received, before.frames_received);
  add(stats_.bytes_sent, now.bytes_sent, before.bytes_sent);
  add(stats_.bytes_received, now.bytes_received, before.bytes_received);
  add(stats_.resends, now.resends, before.resends);
  add(stats_.naks_sent, now.naks_sent, before.naks_sent);
  add(stats_.naks_received, now.naks_received, before.naks_received);
  add(stats_.duplicates, now.duplicates, before.duplicates);
  add(stats_.malformed, now.malformed, before.malformed);
  add(stats_.credit_stalls, now.credit_stalls, before.credit_stalls);
  add(stats_.window_stalls, now.window_stalls, before.window_stalls);
}

}  // namespace oxmem::node
