#ifndef FS_FUSE_REACTOR_H_
#define FS_FUSE_REACTOR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/fuse/file_table.h"
#include "fs/fuse/idle_spin.h"
#include "fs/fuse/init_reply.h"
#include "fs/fuse/lead.h"
#include "fs/fuse/libfuse.h"
#include "fs/fuse/mount_options.h"
#include "fs/fuse/reactor_stats.h"
#include "fs/fuse/request_slot.h"
#include "fs/fuse/write_order.h"
#include "fs/volume/volume.h"
#include "transport/base/clock.h"
#include "transport/base/lazy_timer.h"
#include "transport/base/log.h"
#include "transport/base/mutex.h"
#include "transport/base/unique_fd.h"

namespace oxmem::fs {

// One thread that reads the kernel's requests, starts their operations on volumes of its own and
// answers from the completions: nothing is handed to another thread on the way.
//
//   read /dev/fuse -> libfuse -> operation handler -> Volume::Start ... OnIoDone -> write /dev/fuse
//
// Set up by the thread that mounts; then Run on the reactor's thread, which owns the volumes until
// it returns. Every reactor has a libfuse session on a descriptor of its own: the kernel wants the
// answer on the descriptor that the request was read from.
class Reactor final : private IoListener {
 public:
  // One volume for each file. `files` and `options` outlive the reactor.
  static absl::StatusOr<std::unique_ptr<Reactor>> Create(
      const MountOptions& options, FileTable* files, std::vector<std::unique_ptr<Volume>> volumes);
  ~Reactor();

  // Makes the libfuse session; `arguments` are mount options for it.
  absl::Status MakeSession(const std::vector<std::string>& arguments);
  fuse_session* session() { return session_; }

  // The descriptor requests come from; the session owns it.
  absl::Status Attach(int fuse_fd);
  int fuse_fd() const { return fuse_fd_; }

  // Gives libfuse the kernel's FUSE_INIT. Only one reactor's answer goes to the kernel.
  absl::Status Initialize(std::span<const std::byte> request, const InitReply& reply,
                          bool answer_kernel);
  // What the kernel was told, or would have been.
  const std::vector<std::byte>& init_answer() const { return init_answer_; }

  // The others of the mount, for interrupts of requests that this one does not have, and what they
  // share, which outlives them.
  void SetPeers(std::vector<Reactor*> peers, Lead* lead, WriteOrder* order) {
    peers_ = std::move(peers);
    lead_ = lead;
    order_ = order;
  }

  // Before Run of any of them: what another process had read and not answered comes first.
  void ExpectResent();

  // Until the mount is gone or Stop. Ends with the volumes closed and nothing under way.
  void Run();

  // From any thread. A reactor that waits in read needs a signal besides to notice.
  void Stop();
  // The same, but what is not answered yet is left to whoever serves the mount next: after a
  // moment, or never if `answer_all`.
  void Leave(bool answer_all);
  bool waits_in_read() const { return blocking_; }

  // For any thread. Of requests that are under way, too.
  void SetTimeout(Duration timeout);
  const ReactorStats& stats() const { return stats_; }

  // For operation handlers: on the reactor's thread, within a request.
  const FileTable& files() const { return *files_; }
  FileTable& files() { return *files_; }
  Volume& volume(std::size_t file) { return *volumes_[file]; }
  void StartRead(fuse_req_t request, std::size_t file, uint64_t offset, std::size_t length);
  // `synced`: answered when the region has it, as after a flush.
  void StartWrite(fuse_req_t request, std::size_t file, uint64_t offset, const char* bytes,
                  std::size_t length, bool synced);
  void StartZero(fuse_req_t request, std::size_t file, uint64_t offset, uint64_t length);
  void StartFlush(fuse_req_t request, std::size_t file);
  // Of a file that goes by passthrough.
  void StartOpen(fuse_req_t request, std::size_t file);

  // The kernel's number of the memory that the file's volume has now. Also before Run.
  absl::StatusOr<int32_t> BackingOf(std::size_t file);
  // Before the times of such a file are told or set.
  void NoteMemoryTime(std::size_t file);
  // Loses the memory that was known if that of the volume is gone, or another one. Also before Run.
  void CheckMemory(std::size_t file);

  // From any thread: a read that waited for writes may go on.
  void Resume(RequestSlot& slot);

  // For libfuse.
  ssize_t WriteAnswer(std::span<iovec> pieces);

 private:
  enum class Received { kRequest, kNothing, kUnmounted };
  using WaitingList = IntrusiveList<RequestSlot, &RequestSlot::waiting_link>;

  Reactor(const MountOptions& options, FileTable* files,
          std::vector<std::unique_ptr<Volume>> volumes, std::unique_ptr<RequestSlots> slots,
          LazyTimer timer);

  absl::Status PrepareToWait();
  // One request, if there is one: what it was received into, and its length. Without a slot it was
  // taken back.
  Received Read(RequestSlot** slot, std::size_t* bytes);
  Received Receive();
  // As many as there are, up to together_, before the first is answered: who gets an answer is
  // woken once for several.
  Received ReceiveTogether();
  // What comes again is in no order; all of it is known before a read into the cache is served.
  void ReceiveResent();
  static bool IsLong(const RequestSlot& slot, std::size_t bytes);
  void Dispatch(RequestSlot& slot, std::size_t bytes);
  bool WaitsForWrites(RequestSlot& slot);
  // Until what the peers were taking from the kernel is known.
  void WaitForTakers();
  bool DispatchResumed();
  void ForgetDelayed();
  // Before the slot is used for something else, or as soon as a write that it holds is answered.
  void EndOrder(RequestSlot& slot);
  void Return(RequestSlot* slot);
  bool ReceiveSome();
  bool PollVolumes();
  // Until something has to be waited for besides requests.
  void RunBlocking();
  void PassLead();
  void BeginAlong();
  void EndAlong();
  // Carries on with what was started; true if something is still under way.
  bool LeavesSomething();
  bool PeerPolls() const;
  void StopWaitingInRead();
  // Whether a read of /dev/fuse waits for a request.
  void LetReadWait(bool wait);
  void RunPolling();
  void FinishWaiting();
  void HandOver();
  // Sleeps until a descriptor or a deadline has something for us, at most until `latest`.
  void Sleep(Instant latest = Instant::Never());
  void WatchRequests(bool on);
  Instant NextDeadline() const;
  // Of what began at that time.
  Instant DeadlineOf(Instant since) const;

  void Start(fuse_req_t request, std::size_t file, IoKind kind, uint64_t offset, uint64_t length,
             std::byte* buffer, Purpose purpose = Purpose::kItself);
  void Sync(RequestSlot& slot);
  void OnIoDone(IoOp& op) override;
  void Answer(RequestSlot& slot);
  void ExpireOverdue(Instant now);
  void GiveUp(RequestSlot& slot, int error);
  void LogFailure(const RequestSlot& slot, const char* why);

  void WatchNodes();
  void NoticeLostMemory();
  void AnswerOpen(fuse_req_t request, std::size_t file);
  void AnswerFlush(fuse_req_t request, const RequestSlot& slot);

  void Wake();  // from any thread, if it sleeps
  void OnInterrupt(uint64_t unique, bool from_kernel);
  void TakeForwardedInterrupts();

  const MountOptions& options_;
  FileTable* files_;
  std::vector<std::unique_ptr<Volume>> volumes_;
  std::unique_ptr<RequestSlots> slots_;
  std::vector<transport::MemoryHandle> registrations_;
  fuse_session* session_ = nullptr;
  int fuse_fd_ = -1;
  UniqueFd epoll_fd_;
  UniqueFd wake_fd_;
  LazyTimer timer_;
  std::atomic<bool> blocking_{false};  // until the first operation that does not end in Start
  bool read_waits_ = false;            // not while it looks for requests instead
  IdleSpin spin_;
  Instant received_at_;  // the last request

  const InitReply* init_reply_ = nullptr;  // while FUSE_INIT is being answered
  bool answer_init_ = false;
  std::vector<std::byte> init_answer_;

  RequestSlot* current_ = nullptr;  // of the request that is being dispatched
  WaitingList waiting_;             // answered later, the oldest first
  bool requests_ready_ = false;     // /dev/fuse may have something
  bool requests_watched_ = false;
  // Copying this takes longer than waking another reactor.
  static constexpr uint64_t kLongCopyBytes = uint64_t{128} << 10;
  static constexpr std::size_t kTogether = 8;
  std::size_t together_ = 1;
  std::size_t alone_ = 0;  // requests in a row beside which no other was looked for
  std::size_t burst_ = 1;  // requests to read before the volumes are polled
  bool unmounted_ = false;

  // Files whose memory is a node's and used by the kernel.
  struct Watched {
    std::size_t file = 0;
    uint64_t reconnects = 0;
  };
  std::vector<Watched> watched_;
  bool running_ = false;
  bool expects_resent_ = false;

  std::atomic<int64_t> timeout_ns_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> leave_{false};
  std::atomic<bool> answer_all_{false};
  LogLimiter log_limiter_;
  ReactorStats stats_;

  std::vector<Reactor*> peers_;
  Lead* lead_ = nullptr;
  WriteOrder* order_ = nullptr;
  std::vector<RequestSlot*> delayed_;  // reads that wait for writes
  bool leads_ = false;
  bool along_ = false;              // takes requests without the lead
  bool last_was_long_ = false;      // the last operation that was started
  std::atomic<uint32_t> takes_{0};  // odd while it takes a request from the kernel
  Mutex mutex_;
  std::vector<uint64_t> forwarded_ ABSL_GUARDED_BY(mutex_);
  std::vector<RequestSlot*> resumed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_REACTOR_H_
