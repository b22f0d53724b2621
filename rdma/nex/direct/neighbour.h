#ifndef RDMA_NEX_DIRECT_NEIGHBOUR_H_
#define RDMA_NEX_DIRECT_NEIGHBOUR_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>

#include "rdma/nex/direct/segment.h"

namespace oxmem::nex {

// Another process of this host (or this one) whose memory may be copied to and from. Immutable
// once made; any thread.
class Neighbour {
 public:
  // `segment` is shared for this process itself.
  Neighbour(pid_t pid, UniqueFd pidfd, std::shared_ptr<Segment> segment)
      : pid_(pid), pidfd_(std::move(pidfd)), segment_(std::move(segment)) {}

  pid_t pid() const { return pid_; }
  const Segment& segment() const { return *segment_; }
  // Nothing of the process can be running any more, not even inside a system call.
  bool Gone() const;
  // It was there a moment ago, or is now: too short a time to give its number away, which takes
  // all numbers once around. What the segment says of that is only the owner's word.
  bool LivedJustNow() const;
  // The thread has been seen in the system call of a copy, and after that stopped by a signal,
  // which no thread is within one: that copy has ended. Slow.
  bool HasStoppedBehindItsCopy(pid_t thread) const;

 private:
  const pid_t pid_;
  const UniqueFd pidfd_;
  mutable std::atomic<std::int64_t> lived_ns_{0};  // the moment of the last look
  const std::shared_ptr<Segment> segment_;
};

// The way of one queue pair to its peer's memory. Used with the queue pair's lock held.
struct Way {
  std::shared_ptr<const Neighbour> peer;  // nullptr: none
  Door* door = nullptr;                   // of the peer's queue pair
  std::uint64_t connection = 0;
  pid_t self = 0;  // this process
};

struct RemoteRange {
  std::uint64_t address = 0;
  std::uint64_t length = 0;
  std::uint32_t key = 0;
};

enum class CopyDirection : std::uint8_t { kRead, kWrite };

// One copy between local pieces and a range of the peer's memory, whose sizes are equal. False:
// it is not allowed, or not in this way; nothing can be said about the target's contents then,
// and the peer itself has to be asked, which will also say what is wrong. The last bytes of a
// write are written last.
bool CopyThroughDoor(const Way& way, CopyDirection direction, std::span<const iovec> local,
                     const RemoteRange& remote, bool* hopeless);

// This process's own doors, and the processes of the host that it has met. Thread-safe.
class Neighbourhood {
 public:
  // `own` may be nullptr: then nobody is met.
  explicit Neighbourhood(std::shared_ptr<Segment> own) : own_(std::move(own)) {}

  bool usable() const { return own_ != nullptr; }
  HostIdentity identity() const { return own_ == nullptr ? HostIdentity{} : own_->identity(); }
  Segment* own() const { return own_.get(); }

  // nullptr unless copies to and from that process work, in both directions.
  std::shared_ptr<const Neighbour> Meet(const HostIdentity& host);

  struct DoorFacts {
    std::uint64_t connection = 0;
    std::uint32_t domain = 0;
    std::uint32_t access = 0;
    std::uint32_t qpn = 0;
  };
  void OpenDoor(std::uint32_t index, const DoorFacts& facts, std::shared_ptr<const Neighbour> peer);
  void ChangeAccess(std::uint32_t index, std::uint32_t access);
  // Returns when nobody stands in it. A peer that has died does not stand there, nor does one that
  // was stopped behind its copy. True: somebody has been in it since it was opened.
  bool CloseDoor(std::uint32_t index);
  // Returns when nobody is copying to or from the region, whose key is no longer valid.
  void WaitForVisitors(std::uint32_t region);

 private:
  void WaitWhile(Door& door, const Neighbour& peer, std::uint64_t mark);

  const std::shared_ptr<Segment> own_;
  std::mutex mutex_;  // guards the maps; not held while copying
  std::map<std::uint64_t, std::weak_ptr<const Neighbour>> known_;         // by token
  std::map<std::uint32_t, std::shared_ptr<const Neighbour>> open_doors_;  // by index
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_DIRECT_NEIGHBOUR_H_
