#ifndef RDMA_NEX_DATAGRAM_H_
#define RDMA_NEX_DATAGRAM_H_

#include <infiniband/verbs.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "rdma/nex/config.h"
#include "rdma/nex/qp/frames.h"
#include "rdma/nex/qp/work.h"
#include "rdma/nex/wire.h"

namespace oxmem::nex {

inline constexpr std::uint32_t kMaxDatagramBytes = 4096;
inline constexpr std::size_t kGrhBytes = 40;

// What became of a packet that came in.
enum class DatagramFate : std::uint8_t {
  kReceived,
  kMalformed,
  kNoQueuePair,  // none of that number that is ready
  kWrongKey,
  kNoReceive,
};
inline constexpr std::size_t kDatagramFates = 5;

// One UD queue pair as a pure machine: a request becomes a packet and its completion at once, a
// packet becomes a completed receive. Its owner locks, and moves the packets.
class DatagramQp {
 public:
  explicit DatagramQp(const QpIdentity& identity) : identity_(identity) {}

  struct Route {
    Gid source{};
    Gid destination{};
    bool global = false;
    std::size_t socket = 0;  // the owner's, from which it goes out
  };
  struct Packet {
    std::array<std::byte, kDatagramHeaderBytes> header;
    IoBatch pieces;  // header and payload; the caller releases it
  };

  // 0, or the errno of ibv_post_send for a request that cannot be taken.
  int Check(const ibv_send_wr& wr) const;
  // Takes a request that passed Check. 0 with the packet to send (none when packet->pieces.bytes is
  // 0, because the request failed as a completion and the queue pair enters SQE).
  void Post(const ibv_send_wr& wr, RegionTable& regions, const Route& route, Packet* packet);
  // Every packet is completed by one of these: it went out with so much payload, or the system
  // could not read the payload, as the program has given the memory back to it.
  void OnSent(const ibv_send_wr& wr, std::uint32_t length) { Complete(wr, length, IBV_WC_SUCCESS); }
  void OnUnreadable(const ibv_send_wr& wr) {
    Complete(wr, 0, IBV_WC_LOC_PROT_ERR);
    send_failed_ = true;
  }
  void Flush(const ibv_send_wr& wr) { Complete(wr, 0, IBV_WC_WR_FLUSH_ERR); }

  // Requests that may not go out yet, with what they point to; nothing of the caller's is needed
  // later. In order.
  struct Held {
    ibv_send_wr wr{};
    Route route;
    std::vector<ibv_sge> sges;
    std::vector<std::byte> copy;  // of inline data

    // Valid as long as this is.
    ibv_send_wr request();
  };
  void Hold(const ibv_send_wr& wr, const Route& route);
  bool TakeHeld(Held* held);
  std::size_t held() const { return held_.size(); }
  void ClearHeld() { held_.clear(); }

  // Packets that fit no receive, key or length are dropped, as on a wire.
  DatagramFate OnPacket(const DatagramHeader& header, std::span<const std::byte> payload,
                        std::uint32_t queue_key, RegionTable& regions, ReceiveSource& receives);

  std::vector<Completion>& completions() { return completions_; }
  bool TakeSendFailed() { return std::exchange(send_failed_, false); }
  bool TakeReceiveFailed() { return std::exchange(receive_failed_, false); }

  void AddGroup(const Gid& group);
  bool RemoveGroup(const Gid& group);
  bool InGroup(const Gid& group) const;
  bool multicast_joined() const { return !groups_.empty(); }

 private:
  void Complete(const ibv_send_wr& wr, std::uint32_t length, ibv_wc_status status);

  const QpIdentity identity_;
  std::array<std::byte, kMaxInlineBytes> inline_;
  std::vector<Completion> completions_;
  std::vector<Gid> groups_;
  std::deque<Held> held_;
  bool send_failed_ = false;
  bool receive_failed_ = false;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_DATAGRAM_H_
