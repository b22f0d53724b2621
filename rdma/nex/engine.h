#ifndef RDMA_NEX_ENGINE_H_
#define RDMA_NEX_ENGINE_H_

#include <poll.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <latch>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "rdma/nex/config.h"
#include "rdma/nex/multicast.h"
#include "rdma/nex/objects.h"
#include "rdma/nex/region_table.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

// What moves the bytes of all queue pairs of a process: listening sockets, one epoll set, and a
// background thread that watches it. A program that polls its completion queues, or waits in
// ibv_get_cq_event, moves them by itself; the thread then steps back (a lease that each poll or
// wait renews and that runs out after kLeaseMs without one) so that the two do not wake each other
// for every message. Arming a completion queue ends the lease at once, unless the program has
// been seen to wait in ibv_get_cq_event, which looks after the queue itself.
//
// The sockets of queue pairs are watched edge-triggered: what happens is noted in Qp::signals and
// served by whoever holds the queue pair's lock or gets it next (QpLock), so no thread ever waits
// for that lock to read a socket, and none looks again and again while another is at it.
class Engine {
 public:
  static constexpr int kLeaseMs = 1;
  static constexpr int kMaxQps = 16000;
  // After so long without anything from a peer that owes answers, its host is asked for.
  static constexpr Duration kSilence = Duration::Seconds(1);

  Engine(const Config& config, RegionTable* regions, Neighbourhood* neighbours);

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
  void EnterFatal(Qp* qp);              // so does it when a completion could not be delivered
  void FlushReceives(Qp* qp);

  // Same host (engine_direct.cc). With qp->mutex held:
  // Executes a read or write at once. False: nothing was done, it has to be posted.
  bool TryDirect(Qp* qp, const ibv_send_wr& wr);
  void ChangeAccess(Qp* qp);  // what the queue pair allows its peer has changed

  // UD (engine_datagram.cc). With qp->mutex held:
  void PostDatagram(Qp* qp, const ibv_send_wr& wr);  // the request is one that can be posted
  void SendHeld(Qp* qp);  // datagrams that were posted in SQD; flushes them where they cannot go
  void DeliverDatagrams(Qp* qp);
  // Joins the group on every interface of nex0; does nothing for a member. 0 or an errno.
  int JoinGroup(Qp* qp, const Gid& group);
  int LeaveGroup(Qp* qp, const Gid& group);
  // How many datagrams came to a queue pair with another queue key.
  std::uint32_t wrong_keys() const { return wrong_keys_.load(std::memory_order_relaxed); }

  // A receive was posted for queue pairs that wait for one. No lock held.
  void NotifyReceives(const std::vector<ReceiveQueue::Waiter>& waiters);

  // The program looks into the queue, so it looks after what fills it.
  void CountPoll(Cq* cq);
  // Progress inside ibv_poll_cq on an empty queue. No lock held.
  void PollProgress(Cq* cq);
  // Sends the acknowledgements that wait for something to travel with.
  void FlushDelayed();
  // Waits until `fd` is readable or something was moved. False with errno when interrupted.
  bool WaitFor(int fd);
  // Serves what was signalled while the lock was held. No lock held.
  void Serve(Qp* qp);
  void OnArmed();
  void OnDisarmed() { armed_.fetch_sub(1); }

  static std::uint64_t Random();

 private:
  enum class Kind : std::uint32_t { kListener, kPending, kQp, kDatagrams, kGroup };
  // On whose behalf bytes are moved: a program that is about to see its completions, or the
  // background thread.
  enum class Server : std::uint8_t { kProgram, kThread };
  struct Pending {
    UniqueFd fd;
    std::array<std::byte, kGreetingBytes> bytes;
    std::size_t have = 0;
    Instant deadline;
  };

  bool ListenOn(std::uint32_t slot, int* error);
  bool ListenForDatagrams(const LocalAddress& address, std::uint32_t slot, int* error);
  void ReceiveDatagrams(std::size_t socket);
  void ReceiveFromGroup(int fd);
  DatagramFate RouteDatagram(std::span<const std::byte> packet);
  DatagramFate DeliverPacket(Qp* qp, std::uint32_t qpn, const DatagramHeader& header,
                             std::span<const std::byte> payload);
  DatagramFate DeliverToGroup(std::span<const std::byte> packet, const Gid& group,
                              const std::vector<Qp*>& members);
  void ReportLost(int fd, DatagramFate fate);
  static void* ThreadMain(void* self);
  void Run();
  void Wake();
  int WaitMs(Instant now, bool leased);
  // Serves what epoll reports; queue pairs are only signalled and listed when `noticed` is given.
  void Dispatch(Server server, std::vector<Qp*>* noticed);
  bool ServeForgotten();
  static int LookAround(pollfd* fds, nfds_t count);
  void StayWithStreams();
  void Sleep(int timeout_ms, bool leased);
  bool ServeSignals(Qp* qp, Server server);
  static bool WorthALook(Qp& qp);  // with qp->mutex held
  void PollQp(Qp* qp);
  // With qp->mutex held. True: something was received.
  bool ServeLocked(Qp* qp, std::uint32_t signals, Server server);
  void AcceptAll(std::size_t listener);
  bool MakeRoomLocked();
  void ReadPending(int fd);
  void AttachIncoming(UniqueFd fd, const Greeting& hello);
  bool AdoptLocked(Qp* qp, UniqueFd fd, const Greeting& hello);
  void TryConnect(Qp* qp);
  void StreamOpened(Qp* qp);
  void OpenWay(Qp* qp);
  void CloseWay(Qp* qp);
  void StreamEnded(Qp* qp);
  bool EndsUntouched(Qp* qp);
  void AwaitPeer(Qp* qp);
  void Hurry(Qp* qp);
  void LookAfterPeer(Qp* qp);
  void Watch(Qp* qp);
  void WatchAgain(Qp* qp);
  void SetTimer(Qp* qp);
  void RunTimers();
  void Deliver(Qp* qp);
  void EnterSendError(Qp* qp);
  bool DeliverCompletions(Qp* qp);  // false: one was lost
  void DelayAck(Qp* qp);
  void TellDrained(Qp* qp);
  void SendDatagram(Qp* qp, const ibv_send_wr& request, const DatagramQp::Route& route);

  const Config config_;
  RegionTable* const regions_;
  Neighbourhood* const neighbours_;
  std::uint32_t slot_ = 0;
  bool started_ = false;
  UniqueFd epoll_;
  UniqueFd wake_;
  int Spare() const;
  UniqueFd spare_;  // to be given up when there are no descriptors left
  std::vector<UniqueFd> listeners_;
  std::vector<UniqueFd> datagram_fds_;  // one for each address
  // Held from receiving to delivery, which keeps their order; guards the next two.
  std::mutex datagrams_mutex_;
  std::array<std::uint64_t, kDatagramFates> lost_{};  // by what became of them
  Instant report_lost_at_;
  std::atomic<std::uint32_t> wrong_keys_{0};  // at most 65535; changed under datagrams_mutex_
  MulticastGroups groups_;
  pthread_t thread_{};
  std::latch thread_lives_{1};  // others of this host may look at it

  mutable std::mutex qps_mutex_;  // guards the next three
  std::array<std::atomic<Qp*>, kIndices> qps_{};
  std::uint32_t next_index_ = 0;
  int qps_taken_ = 0;

  std::mutex pending_mutex_;
  std::map<int, Pending> pending_;

  std::mutex timers_mutex_;
  std::set<std::pair<Instant, Qp*>> timers_;

  std::mutex delayed_mutex_;
  std::vector<Qp*> delayed_;
  std::atomic<bool> has_delayed_{false};
  std::atomic<std::int64_t> streamed_at_{0};  // when much was last moved at a time, ns

  std::atomic<std::uint64_t> polls_{0};
  std::atomic<std::uint64_t> waits_{0};  // in WaitFor, begun
  std::atomic<int> waiting_{0};          // in WaitFor, now
  std::atomic<int> armed_{0};
  std::atomic<bool> leased_{false};
  std::atomic<bool> waits_seen_{false};  // the lease is that of a thread in WaitFor
};

// Holds a queue pair's lock, and serves what was signalled meanwhile when it gives it up.
class QpLock {
 public:
  QpLock(Engine& engine, Qp* qp) : engine_(engine), qp_(qp) { qp_->mutex.lock(); }
  ~QpLock() {
    qp_->mutex.unlock();
    if (qp_->signals.load() != 0) engine_.Serve(qp_);
  }
  QpLock(const QpLock&) = delete;
  QpLock& operator=(const QpLock&) = delete;

 private:
  Engine& engine_;
  Qp* const qp_;
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_ENGINE_H_
