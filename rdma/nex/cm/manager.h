#ifndef RDMA_NEX_CM_MANAGER_H_
#define RDMA_NEX_CM_MANAGER_H_

#include <pthread.h>
#include <rdma/rdma_user_cm.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "rdma/nex/cm/asking.h"
#include "rdma/nex/cm/dialogue.h"
#include "rdma/nex/cm/kernel_manager.h"
#include "rdma/nex/cm/lookup.h"
#include "rdma/nex/cm/message.h"
#include "rdma/nex/config.h"
#include "rdma/nex/event_queue.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem::nex {

// The events of rdma_cma.h, which cannot be included beside rdma_user_cm.h.
enum CmEventType : std::uint32_t {
  kCmAddressResolved = 0,
  kCmAddressError = 1,
  kCmRouteResolved = 2,
  kCmConnectRequest = 4,
  kCmConnectResponse = 5,
  kCmUnreachable = 7,
  kCmRejected = 8,
  kCmEstablished = 9,
  kCmDisconnected = 10,
  kCmMulticastJoin = 12,
  kCmTimewaitExit = 15,
};
inline constexpr std::uint32_t kCmQueueKey = 0x01234567;  // RDMA_UDP_QKEY

// The kernel's connection manager as librdmacm sees it: files opened at /dev/infiniband/rdma_cm,
// commands written to them (rdma_user_cm.h), events read back. A connection is one TCP connection,
// which carries the messages and whose end is the end of the connection.
//
// Programs use one number with TCP and with the connection manager at the same time, so the number
// of an identifier is a UDP port. A listening identifier takes its connections at a TCP port that
// the system chooses, and tells those who ask its number by UDP (lookup.h). In the UDP port space
// it is the other way round: there programs have the UDP port for themselves, and the number is the
// TCP port of the listener.
//
// Where the kernel has a connection manager as well, for other devices, each file has one of the
// kernel behind it, and each identifier is made there too and has the same number. With the first
// address it is known whose it is: what is not an address of nex0 goes to the kernel, with all that
// follows. Events of both come out of the program's one file.
//
// Thread-safe: one lock; nothing here is on a data path. A thread of its own watches the sockets.
class CmManager {
 public:
  static CmManager* Get();
  static bool Exists();
  static void AbandonInChild();

  // The descriptor of a new file, or -1 with errno.
  int Open(int flags);
  bool Owns(int fd) const;
  void Close(int fd);
  // One command, as write(2) on the kernel's file: the size, or -1 with errno.
  ssize_t Command(int fd, const void* buffer, std::size_t size);

 private:
  struct Event {
    rdma_ucm_event_resp body{};
    std::uint32_t owner = 0;    // the identifier with which it goes and moves
    std::uint32_t account = 0;  // the identifier, or its group, that counts it
  };
  struct File {
    EventQueue<Event> events;
    KernelManager kernel;
  };
  using State = CmDialogue::State;
  struct Group {
    std::uint32_t handle = 0;
    std::uint64_t uid = 0;
    std::uint32_t reported = 0;
  };
  // The number of an identifier at one address, which is a UDP port.
  struct Place {
    UniqueFd fd;
    Gid gid{};
    std::uint16_t listens_at = 0;  // the TCP port; 0: it does not listen
  };
  struct Id {
    std::uint32_t handle = 0;
    std::uint64_t uid = 0;
    std::shared_ptr<File> file;
    std::uint16_t space = RDMA_PS_TCP;
    CmDialogue dialogue;
    bool datagram() const { return dialogue.datagram(); }
    State state() const { return dialogue.state(); }
    // Whether its number is a UDP port, and a TCP port otherwise.
    bool has_places() const { return space != RDMA_PS_UDP && space != RDMA_PS_IPOIB; }
    std::vector<Place> places;
    std::vector<UniqueFd> sockets;         // listening: one for each address; otherwise at most one
    std::uint32_t listener = 0;            // the identifier that a request arrived at
    bool taken = true;                     // the program knows of it
    std::size_t backlog = 0;               // of a listener: so many that the program has not taken,
    std::size_t untaken = 0;               // and how many there are
    Instant resume_at = Instant::Never();  // of a listener that accepts nothing for a moment
    bool paused = false;
    CmEnds ends;
    sockaddr_in6 source{};
    sockaddr_in6 destination{};
    bool awaits_route = false;      // there is no path before the program has asked for it
    bool own_family_only = false;   // RDMA_OPTION_ID_AFONLY
    bool shares_number = false;     // RDMA_OPTION_ID_REUSEADDR
    rdma_ucm_bind_ip bound{};       // what the program bound it to, if addr has a family
    std::uint8_t ack_timeout = 14;  // of its queue pair; RDMA_OPTION_ID_ACK_TIMEOUT
    rdma_ucm_conn_param own{};
    rdma_ucm_conn_param peer{};  // its depths as this side sees them
    // Whoever speaks last decides.
    std::uint8_t responder_resources = 0;
    std::uint8_t initiator_depth = 0;
    void Agree(const rdma_ucm_conn_param& parameters) {
      responder_resources = parameters.responder_resources;
      initiator_depth = parameters.initiator_depth;
    }
    std::uint32_t reported = 0;
    std::array<std::byte, kCmMessageBytes> bytes;
    std::size_t have = 0;
    std::vector<Group> groups;
    CmAsking asking;
    std::uint64_t nonce = 0;                   // of its questions
    std::uint64_t ticket = 0;                  // of the answer
    Instant answers_at = Instant::Never();     // those who ask wait until then
    Instant timewait_ends = Instant::Never();  // of a connection that is over
  };

  CmManager();
  int Start();
  static void* ThreadMain(void* self);
  void Run();
  void OnReady(std::uint32_t handle, int fd);
  void OnAccept(Id& listener, int fd);
  void OnRequest(Id& id, const CmMessage& message);
  // Tells the program, and closes what is over; `id` may be gone afterwards.
  void Tell(Id& id, CmNews news, const CmMessage* message);
  void Withdraw(Id& id);  // a request that the program has not taken: it and its event go
  // Whether a message may come from there; the number of who makes a request is known from then on.
  bool Admits(Id& id, const CmMessage& message) const;
  void ConnectTo(Id& id, std::uint16_t port);  // a TCP port
  void FinishConnect(Id& id);
  void OnConnectFailed(Id& id, int error);
  void GiveUp(Id& id, int error);
  void FindEnds(Id& id);
  int RunTimers();  // milliseconds until the next one, or -1
  void WakeAt(Instant when);
  void OnDisconnected(Id& id);
  void Pause(Id& listener, Instant until);
  void Resume(Id& listener);
  // Of the connections that have not made their request: those that took too long, and with
  // `crowded` the oldest as well if it had time enough. False: crowded, and none was dropped.
  bool DropSilent(Instant now, bool crowded);
  void Watch(const Id& id, int fd, std::uint32_t events);
  void Send(Id& id, CmMessageType type, const rdma_ucm_conn_param* parameters);
  void Forget(int fd) const;  // no longer watched
  void CloseSockets(Id& id);
  std::uint32_t NewHandle();

  // finding.cc
  static Place* PlaceOf(Id& id, int fd);
  void AnswerQuestions(Id& id, const Place& place);
  void Ask(Id& id, bool first);
  void HearAnswers(Id& id, const Place& place);
  void OnUnheard(Id& id, int error);
  void OnAskingDeadline(Id& id, Instant now);
  void OnRefused(Id& id);
  void ShareRefusal(const Id& refused);  // with those who ask the same

  Event MakeEvent(const Id& id, std::uint32_t type, int status) const;
  void Push(Id& id, std::uint32_t type, int status, const rdma_ucm_conn_param* parameters);
  void PushDatagram(Id& id, std::uint32_t type, const ib_uverbs_ah_attr& path, std::uint32_t qpn,
                    std::uint32_t qkey, const CmMessage* message);
  ib_uverbs_ah_attr PathTo(const Id& id, const Gid& gid) const;
  Id* Find(std::uint32_t handle);

  // The kernel's part.
  bool IsOfKernel(const File& file, std::uint32_t handle) const;
  // From now on the identifier is the kernel's. False: the kernel does not know it.
  bool HandOver(Id& id);
  int PassMigration(rdma_ucm_migrate_id command, const File& file, std::size_t out_size);
  void WatchKernel(const File& file, bool first);
  // The marker in a file's events stands for those that the kernel has.
  int GetKernelEvent(File& file, const rdma_ucm_get_event& command, std::size_t out_size);

  // commands.cc: each returns 0 or an errno; kOfKernel if the kernel is to do it instead.
  static constexpr int kOfKernel = -1;
  int Execute(const std::shared_ptr<File>& file, std::uint32_t command, const char* in,
              std::size_t in_size, std::size_t out_size);
  int CreateId(const std::shared_ptr<File>& file, const rdma_ucm_create_id& command);
  int DestroyId(const rdma_ucm_destroy_id& command);
  int BindIp(const rdma_ucm_bind_ip& command);
  int ResolveIp(const rdma_ucm_resolve_ip& command);
  int ResolveRoute(const rdma_ucm_resolve_route& command);
  int QueryRoute(const rdma_ucm_query& command, std::size_t out_size);
  int Connect(const rdma_ucm_connect& command);
  int Listen(const rdma_ucm_listen& command);
  int Accept(const rdma_ucm_accept& command);
  int Reject(const rdma_ucm_reject& command);
  int Disconnect(const rdma_ucm_disconnect& command);
  int InitQpAttr(const rdma_ucm_init_qp_attr& command, std::size_t out_size);
  int SetOption(const rdma_ucm_set_option& command);
  int Join(std::uint32_t id, std::uint64_t uid, std::uint64_t response,
           const sockaddr_in6& address);
  int Leave(const rdma_ucm_destroy_id& command);
  int Migrate(const rdma_ucm_migrate_id& command, const std::shared_ptr<File>& file);
  int GetEvent(const std::shared_ptr<File>& file, const rdma_ucm_get_event& command,
               std::size_t out_size);
  void Take(const Event& event);  // the program has it
  // binding.cc: a socket of nex0's address, bound to the port or to one that the system chooses.
  static void AllowReuse(int fd, bool allowed);
  static int MakeSocket(int type, bool reuse, const Gid& gid, std::uint16_t* port, UniqueFd* made);
  int BindNumber(Id& id, const Gid& gid, std::uint16_t* number);
  int BindNumbers(Id& id, const sockaddr_in6& address, std::uint16_t* number);
  int BindForRoute(Id& id);
  int ClaimPlace(Id& id, Place& place);
  int ListenAtPlaces(Id& id, int backlog);

  mutable std::mutex mutex_;
  std::map<int, std::shared_ptr<File>> files_;
  std::map<std::uint32_t, std::unique_ptr<Id>> ids_;
  struct Arrival {
    Instant when;
    std::uint32_t handle = 0;
  };
  std::deque<Arrival> arrivals_;  // connections that had not made their request, oldest first
  // librdmacm has a table for identifiers below 65536. Those of the kernel are in its lower half,
  // as it gives away the lowest number that is free, and ours in the upper one.
  static constexpr std::uint32_t kOwnHandles = 32768;
  static constexpr std::uint32_t kEndOfHandles = 65536;
  static constexpr std::size_t kMaxIds = kEndOfHandles - kOwnHandles;
  static constexpr std::uint32_t kGroupHandles = kEndOfHandles;  // of groups: from here on
  static constexpr std::uint32_t kKernelMarker = 0;  // as account of an event; no handle
  std::uint32_t next_handle_ = kOwnHandles;
  std::uint32_t next_group_ = kGroupHandles;
  const CmTickets tickets_;
  Instant wakes_at_ = Instant::Never();  // the thread, by itself
  UniqueFd epoll_;
  UniqueFd wake_;  // for the thread to look at the timers
  // So that write(2) on any other descriptor costs one load.
  static constexpr int kFdLimit = 1 << 16;
  std::array<std::atomic<bool>, kFdLimit> own_fds_{};
};

}  // namespace oxmem::nex

#endif  // RDMA_NEX_CM_MANAGER_H_
