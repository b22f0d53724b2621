#ifndef OXMEM_NODE_NODE_H_
#define OXMEM_NODE_NODE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "oxmem/link/link.h"
#include "oxmem/node/deadline_heap.h"
#include "oxmem/node/executor.h"
#include "oxmem/node/region_map.h"
#include "oxmem/tloe/engine.h"
#include "oxmem/tloe/frame_header.h"
#include "transport/base/clock.h"
#include "transport/base/counter.h"
#include "transport/base/log.h"

namespace oxmem::node {

struct NodeConfig {
  tloe::EngineConfig
      engine;  // of every connection; role, protocol, frame size and channel are set here
  std::optional<tloe::Protocol> protocol;  // only this one; empty: whichever the peer begins with
  std::vector<link::Address> allowed;      // empty: everybody
  std::size_t max_connections = 64;
  // With all connections taken, a new peer replaces one that never completed its opening, or the
  // one that was silent longest, if this long.
  Duration replace_after = Duration::Seconds(30);
};

// One thread adds, any reads.
struct NodeStats {
  Counter connections;  // open now: a level
  Counter connections_opened;
  Counter connections_failed;
  Counter refused_address;  // frames of peers that are not on the list
  Counter refused_full;     // openings with all connections taken
  Counter unknown_frames;   // of no connection, and not an opening
  Counter frames_sent;
  Counter frames_received;
  Counter bytes_sent;
  Counter bytes_received;
  Counter resends;
  Counter naks_sent;
  Counter naks_received;
  Counter duplicates;
  Counter malformed;
  Counter credit_stalls;
  Counter window_stalls;
};

template <typename Visitor>
void ForEachCounter(const NodeStats& stats, Visitor&& visit) {
  visit("connections", true, "connections open", stats.connections);
  visit("connections_opened", false, "connections opened", stats.connections_opened);
  visit("connections_failed", false, "connections lost", stats.connections_failed);
  visit("refused_address", false, "frames of peers not allowed", stats.refused_address);
  visit("refused_full", false, "openings refused, no room", stats.refused_full);
  visit("unknown_frames", false, "frames of no connection", stats.unknown_frames);
  visit("frames_sent", false, "frames sent", stats.frames_sent);
  visit("frames_received", false, "frames received", stats.frames_received);
  visit("wire_bytes_sent", false, "bytes in frames sent", stats.bytes_sent);
  visit("wire_bytes_received", false, "bytes in frames received", stats.bytes_received);
  visit("resends", false, "frames sent again", stats.resends);
  visit("naks_sent", false, "negative acknowledgements sent", stats.naks_sent);
  visit("naks_received", false, "negative acknowledgements received", stats.naks_received);
  visit("duplicates", false, "frames received more than once", stats.duplicates);
  visit("malformed", false, "frames that were not right and not taken", stats.malformed);
  visit("credit_stalls", false, "waits for credits", stats.credit_stalls);
  visit("window_stalls", false, "waits for acknowledgements", stats.window_stalls);
}

// The memory node: answers TileLink requests of any number of peers, each with up to eight virtual
// channels, on one link. Driven by one thread:
//
//   node.Poll(Now());
//   sleep until node.fd() is readable or node.next_deadline()
//
// Requests are carried out in the order they arrive on a connection. One whose answer cannot be
// sent yet (credits, window) waits in the connection's receive buffer, and its credits with it: a
// slow peer stops itself and nobody else.
class Node {
 public:
  Node(const NodeConfig& config, std::unique_ptr<link::Link> link, RegionMap regions);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Takes what has arrived, answers it and sends what is due. True if frames came in: poll again
  // soon.
  bool Poll(Instant now);
  int fd() const { return link_->fd(); }
  Instant next_deadline() const { return deadlines_.soonest(); }

  // Tells every peer that the connection ends, and takes no new ones from now on.
  void Close(Instant now);

  // The way to the peers is another one, so that longer frames may reach them again. For
  // connections to come.
  void ForgetFrameLimits();

  const link::Link& link() const { return *link_; }
  const NodeStats& stats() const { return stats_; }
  const ExecutorStats& executor_stats() const { return executor_.stats(); }
  const std::vector<Region>& regions() const { return regions_.regions(); }
  // The state of the link at the last attempt to send.
  const absl::Status& link_status() const { return link_status_; }

 private:
  struct Connection;
  struct Key {
    link::Address peer;
    uint8_t virtual_channel;
    friend bool operator==(const Key&, const Key&) = default;
    template <typename H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.peer, key.virtual_channel);
    }
  };

  // Of a peer that longer frames did not reach.
  struct FrameLimit {
    std::size_t bytes;
    Instant until;
  };

  void OnFrame(Instant now, const link::IncomingFrame& frame);
  void OnConnectionFrame(Instant now, Connection& connection, std::span<const std::byte> frame);
  void OnUnknownFrame(Instant now, const Key& key, const tloe::FrameHeader& header,
                      std::span<const std::byte> frame);
  void Refuse(const Key& key, const tloe::FrameHeader& header, std::span<const std::byte> frame);
  Connection* FindConnection(const Key& key);
  // Null, counted, if there is no room.
  Connection* AddConnection(Instant now, const Key& key, tloe::Protocol protocol);
  // Of all, or of those whose peer said nothing after its opening.
  Connection* LongestSilent(bool only_opened);
  void RemoveConnection(Connection& connection);
  void LimitFrames(Instant now, const Connection& connection);
  void LogRefusal(Instant now, const link::Address& peer, std::string_view why);
  void Serve(Connection& connection);
  void MarkDirty(Connection& connection);
  void FlushDirty(Instant now);
  void TakeFrames(Instant now, Connection& connection);
  void SendOutgoing();
  // Adds what the connection counted since the last time to the node's sums.
  void AddStats(Connection& connection);

  NodeConfig config_;
  std::unique_ptr<link::Link> link_;
  RegionMap regions_;
  Executor executor_;
  absl::flat_hash_set<link::Address> allowed_;
  absl::flat_hash_map<Key, uint32_t> by_key_;
  std::vector<std::unique_ptr<Connection>> connections_;  // by id; empty places are reused
  std::vector<uint32_t> free_ids_;
  absl::flat_hash_map<link::Address, FrameLimit> frame_limits_;
  DeadlineHeap deadlines_;
  std::vector<uint32_t> dirty_;
  std::vector<link::IncomingFrame> incoming_;
  std::vector<link::OutgoingFrame> outgoing_;
  Key last_key_{};
  Connection* last_connection_ = nullptr;
  bool closing_ = false;
  absl::Status link_status_;
  LogLimiter refusal_log_{Duration::Seconds(10)};
  NodeStats stats_;
};

}  // namespace oxmem::node

#endif  // OXMEM_NODE_NODE_H_
