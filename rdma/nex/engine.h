#ifndef RDMA_NEX_ENGINE_H_
#define RDMA_NEX_ENGINE_H_

#include <pthread.h>

#include <array>
#include <atomic>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "rdma/nex/config.h"
#include "rdma/nex/objects.h"
#include "rdma/nex/region_table.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

// What moves the bytes of all queue pairs of a process: listening sockets, one epoll set, and a
// background thread that watches it. A program that polls its completion queues moves them by
// itself; the thread then steps back (a lease that each poll renews and that runs out after
// kLease without a poll) so that the two do not wake each other for every message. An armed
// completion queue ends the lease at once.
class Engine {
 public:
  static constexpr int kLeaseMs = 1;

  Engine(const Config& config, RegionTable* regions);

  // Takes a free slot, listens and starts the thread. 0 or an errno; *error says more. Once.
  int Start(std::string* error);
  std::uint32_t slot() const { return slot_; }
  const Config& config() const { return config_; }
  RegionTable& regions() { return *regions_; }
  // In the child of a fork: closes what belongs to the parent. The engine is dead afterwards.
  void AbandonInChild();

  // Queue pairs. NewQp gives an index that has not been used for as long as possible; nullptr
  // when all are in use. ReleaseQp: the queue pair is closed and not alive.
  Qp* NewQp();
  void ReleaseQp(Qp* qp);
  Qp* FindQp(std::uint32_t qpn) const;

  // With qp->mutex held:
  void OpenStream(Qp* qp);              // the queue pair became ready to receive
  void CloseStream(Qp* qp);             // whatever there is
  void Pump(Qp* qp, bool acknowledge);  // writes, delivers, keeps timers and interests
  void EnterError(Qp* qp);              // the verbs state becomes ERR
  void FlushReceives(Qp* qp);

  // UD (engine_datagram.cc). With qp->mutex held:
  int PostDatagram(Qp* qp, const ibv_send_wr& wr);
  void DeliverDatagrams(Qp* qp);
  // Joins the group on the primary address. 0 or an errno.
  int JoinGroup(Qp* qp, const Gid& group);
  int LeaveGroup(Qp* qp, const Gid& group);

  // A receive was posted for queue pairs that wait for one. No lock held.
  void NotifyReceives(const std::vector<ReceiveQueue::Waiter>& waiters);

  // Progress inside ibv_poll_cq on an empty queue. No lock held.
  void PollProgress(Cq* cq);
  void OnArmed();
  void OnDisarmed() { armed_.fetch_sub(1); }

  static std::uint64_t Random();

 private:
  enum class Kind : std::uint32_t { kWake, kListener, kPending, kQp, kDatagrams };
  struct Pending {
    UniqueFd fd;
    std::array<std::byte, kGreetingBytes> bytes;
    std::size_t have = 0;
    Instant deadline;
  };

  bool ListenOn(std::uint32_t slot, int* error);
  bool ListenForDatagrams(const LocalAddress& address, std::uint32_t slot, int* error);
  void ReceiveDatagrams(std::size_t socket);
  void RouteDatagram(std::span<const std::byte> packet);
  int OpenMulticast();
  int ChangeMembership(const Gid& group, bool join);
  static void* ThreadMain(void* self);
  void Run();
  void Wake();
  int WaitMs(Instant now, bool leased);
  // True: some queue pair had something to do.
  bool Dispatch(int timeout_ms, bool background);
  void ClearWake();
  bool ProgressQp(Qp* qp, bool from_poll);
  void AcceptAll(std::size_t listener);
  void ReadPending(int fd);
  void AttachIncoming(UniqueFd fd, const Greeting& hello);
  bool AdoptLocked(Qp* qp, UniqueFd fd, const Greeting& hello);
  void TryConnect(Qp* qp);
  void StreamEnded(Qp* qp, bool was_open);
  void Watch(Qp* qp);
  void SetInterest(Qp* qp);
  void SetTimer(Qp* qp);
  void RunTimers();
  void Deliver(Qp* qp);
  void DelayAck(Qp* qp);
  void FlushDelayed();

  const Config config_;
  RegionTable* const regions_;
  std::uint32_t slot_ = 0;
  bool started_ = false;
  UniqueFd epoll_;
  UniqueFd wake_;
  std::vector<UniqueFd> listeners_;
  std::vector<UniqueFd> datagram_fds_;  // one for each address, then the multicast ones
  std::mutex groups_mutex_;             // guards the next two; may be taken under a qp->mutex
  std::map<Gid, std::vector<Qp*>> groups_;
  bool multicast_open_ = false;
  pthread_t thread_{};

  mutable std::mutex qps_mutex_;  // guards the next three
  std::array<std::atomic<Qp*>, kIndices> qps_{};
  std::uint32_t next_index_ = 0;
  std::uint32_t live_ = 0;

  std::mutex pending_mutex_;
  std::map<int, Pending> pending_;

  std::mutex timers_mutex_;
  std::set<std::pair<Instant, Qp*>> timers_;

  std::mutex delayed_mutex_;
  std::vector<Qp*> delayed_;

  std::atomic<std::uint64_t> polls_{0};
  std::atomic<int> armed_{0};
  std::atomic<bool> leased_{false};
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_ENGINE_H_
