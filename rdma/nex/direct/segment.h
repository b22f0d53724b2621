#ifndef RDMA_NEX_DIRECT_SEGMENT_H_
#define RDMA_NEX_DIRECT_SEGMENT_H_

#include <linux/futex.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "rdma/nex/host_identity.h"
#include "rdma/nex/region_table.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

// Through a door the peer of one connected queue pair may read and write this process's memory
// with process_vm_readv and process_vm_writev. There is one for each index of queue pairs. The
// owner opens and closes it; the peer stands in it (`busy`) while it copies.
//
//   owner: open: fields, then connection := id     close: connection := 0, wait until busy is 0
//   peer:  busy: 0 -> mark, visitor := thread, then check the connection and the region's key,
//          copy, busy := 0
//
// Both orders are sequentially consistent: either the peer sees that the door or the region is
// gone, or the owner sees the peer, and which thread it is, and waits for it.
struct alignas(64) Door {
  std::atomic<std::uint64_t> connection{0};  // 0: closed
  std::atomic<std::uint64_t> busy{0};        // a DoorMark, 0: nobody
  std::atomic<std::uint32_t> visitor{0};     // the thread that stands in it, or did; 0: none yet
  std::atomic<std::uint32_t> domain{0};      // protection domain that keys must belong to
  std::atomic<std::uint32_t> access{0};      // what the queue pair allows, IBV_ACCESS_*
  std::atomic<std::uint32_t> qpn{0};         // for windows that are bound to a queue pair
};

// Who stands in a door: process, connection and region, so that no two visitors of different
// connections can take each other's mark for their own.
struct DoorMark {
  static constexpr int kRegionBits = 18;
  static constexpr int kConnectionBits = 24;
  static std::uint64_t Make(pid_t pid, std::uint64_t connection, std::uint32_t region) {
    return static_cast<std::uint64_t>(pid) << (kRegionBits + kConnectionBits) |
           (connection & ((1u << kConnectionBits) - 1)) << kRegionBits | (region + 1);
  }
  static bool IsIn(std::uint64_t mark, std::uint32_t region) {
    return (mark & ((1u << kRegionBits) - 1)) == region + 1;
  }
};

// What a process shows to others of its host: one memfd with its table of regions and its doors.
// Others of the same user map it; their copies then need no help of the owner's.
class Segment {
 public:
  static constexpr std::size_t kRegions = 1 << 17;
  static constexpr std::size_t kDoors = 1 << 14;

  // Of this process. nullptr when the system does not allow it; nothing works without then.
  static std::unique_ptr<Segment> Create(std::uint64_t token);
  // Of another process of this user that has announced itself with `host`. nullptr when it is not
  // allowed, is not there, or is not who it said.
  static std::unique_ptr<Segment> Open(const HostIdentity& host);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  HostIdentity identity() const;
  RegionStorage regions() const;
  Door& door(std::uint32_t index) const { return doors()[index % kDoors]; }
  // Address at which the owner's memory holds its token, to try whether copying is allowed.
  std::uint64_t probe() const { return header()->probe; }

  // Owner: the calling thread stands for the life of the process, and does nothing else with
  // robust futexes. When the process ends, however it ends, the system itself marks the segment.
  void LiveHere();
  bool alive() const {
    const std::uint32_t life = header()->life.load(std::memory_order_acquire);
    return life != 0 && (life & FUTEX_OWNER_DIED) == 0;
  }
  // In the child of a fork: what is changed from here on is the child's own copy.
  void BecomePrivate();

 private:
  struct Header {
    std::uint64_t magic;
    std::uint64_t token;
    std::uint64_t probe;
    std::uint32_t version;
    std::uint32_t pid;
    robust_list life_node;
    std::atomic<std::uint32_t> life;  // thread that lives here; FUTEX_OWNER_DIED after its end
  };
  static constexpr std::size_t kHeaderSpace = 4096;
  static constexpr std::size_t kDoorSpace = kDoors * sizeof(Door);
  static constexpr std::size_t kIndexSpace = 2 * kRegions * sizeof(std::atomic<std::uint32_t>);
  static constexpr std::size_t kBytes =
      kHeaderSpace + kDoorSpace + kIndexSpace + kRegions * sizeof(Region);

  Segment(UniqueFd fd, std::byte* memory) : fd_(std::move(fd)), memory_(memory) {}
  Header* header() const { return reinterpret_cast<Header*>(memory_); }
  Door* doors() const { return reinterpret_cast<Door*>(memory_ + kHeaderSpace); }

  UniqueFd fd_;
  std::byte* const memory_;
  std::unique_ptr<std::uint64_t> probe_token_;
  robust_list_head life_list_{};
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_DIRECT_SEGMENT_H_
