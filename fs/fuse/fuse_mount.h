#ifndef FS_FUSE_FUSE_MOUNT_H_
#define FS_FUSE_FUSE_MOUNT_H_

#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/fuse/file_table.h"
#include "fs/fuse/lead.h"
#include "fs/fuse/mount_options.h"
#include "fs/fuse/mount_point.h"
#include "fs/fuse/mount_record.h"
#include "fs/fuse/reactor.h"
#include "fs/volume/volume.h"
#include "transport/base/unique_fd.h"

namespace oxmem::fs {

// A mounted directory and the threads that serve it. One thread, not one of the reactors', uses it.
class FuseMount {
 public:
  // Mounts. `volumes` has a list for every reactor, each with one volume per file: all of a file
  // lead to the same region. On an error nothing is mounted. Blocks signals in no thread; the
  // caller does that before, for all.
  static absl::StatusOr<std::unique_ptr<FuseMount>> Create(
      MountOptions options, std::vector<MountFile> files,
      std::vector<std::vector<std::unique_ptr<Volume>>> volumes);

  // For a mount that another process made: everything that may fail while that one still serves it.
  // Files that are open in it stay open, and what that process leaves unanswered is answered by
  // this one. The options and files are those of the record (CheckTakeOver). Of `life` only the
  // record and the attributes are needed.
  static absl::StatusOr<std::unique_ptr<FuseMount>> PrepareTakeOver(
      MountOptions options, std::vector<MountFile> files,
      std::vector<std::vector<std::unique_ptr<Volume>>> volumes, LiveMount life);
  // Nobody serves it any more: goes on with it. Owner, umask and read-ahead are applied if they are
  // others than were asked for before. On an error the mount is as it was; kAborted if another
  // process was faster.
  absl::Status TakeOver(std::vector<UniqueFd> fuse_fds);

  // Whether a take-over would be of the same files, and agree with the kernel on the same;
  // otherwise what differs. `volumes` are those of one reactor, or none for a look at the words
  // alone.
  static absl::Status CheckTakeOver(const MountRecord& record, const MountOptions& options,
                                    const std::vector<MountFile>& files,
                                    std::span<const std::unique_ptr<Volume>> volumes);

  // Detaches and ends the reactors if that has not happened.
  ~FuseMount();
  FuseMount(const FuseMount&) = delete;
  FuseMount& operator=(const FuseMount&) = delete;

  // Starts the reactors; then the mount answers.
  absl::Status Start();

  // Readable when the mount is gone, whoever unmounted it.
  int ended_fd() const { return ended_fd_.get(); }

  // Unmounts: cleanly if nobody uses it. Otherwise what is dirty is written back, the mount is
  // detached, and the status names who used it; their further accesses fail.
  absl::Status Shutdown();

  // Stops serving and leaves the mount to a successor, who gets the requests that are not answered;
  // those under way are given a moment to end, and all the time they need on a kernel that does
  // not give requests twice. Of what it gives back the mount lives until a successor has it.
  LiveMount Leave();

  // Gives the mount what `options` have of owner, umask, timeout, read-ahead, ro and words; the
  // kernel's own ro is the caller's affair. The record is another one then.
  absl::Status Change(const MountOptions& options);

  // For a LiveMount: the descriptors belong to the mount.
  int record_fd() const { return record_fd_.get(); }
  int attributes_fd() const { return files_->attributes().fd(); }
  std::vector<int> fuse_fds() const;
  // Whether a successor can take over from a process that was killed.
  bool survives_its_server() const { return survives_its_server_; }

  const MountOptions& options() const { return options_; }
  const FileTable& files() const { return *files_; }
  // The directory, or where somebody moved the mount.
  std::string place() const;

  // Until Shutdown. Counters may be read by any thread.
  std::size_t reactor_count() const { return reactors_.size(); }
  const ReactorStats& reactor_stats(std::size_t index) const { return reactors_[index]->stats(); }

 private:
  FuseMount(MountOptions options, std::unique_ptr<FileTable> files)
      : options_(std::move(options)), files_(std::move(files)) {}

  absl::Status MakeReactors(std::vector<std::vector<std::unique_ptr<Volume>>> volumes);
  absl::Status MakeSessions();
  absl::Status Mount();
  absl::Status Handshake();
  absl::Status ChooseModes(bool kernel_has_passthrough);
  absl::Status WriteRecord(std::vector<std::byte> init_request);
  void AdoptModes(const MountRecord& record);
  absl::Status ApplyOptions(const MountRecord& record);
  void ForgetAttributes() const;
  void AskAgain();
  absl::Status SetReadAhead() const;
  absl::Status UnmountHere(UnmountMode mode) const;
  // True if the reactors have ended by themselves, or do so in time.
  bool WaitForEnd(Duration patience) const;
  void WriteBack() const;
  void StopServing();
  void Join();

  MountOptions options_;
  std::unique_ptr<FileTable> files_;
  Lead lead_;
  WriteOrder order_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::vector<std::thread> threads_;
  std::atomic<std::size_t> running_{0};
  UniqueFd ended_fd_;
  UniqueFd record_fd_;
  std::vector<UniqueFd> surplus_fds_;  // of a mount taken over from more reactors
  bool mounted_ = false;
  bool taken_over_ = false;
  bool owners_changed_ = false;      // since the kernel asked
  bool read_ahead_changed_ = false;  // or not told yet
  std::vector<std::byte> init_request_;
  bool survives_its_server_ = false;
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_FUSE_MOUNT_H_
