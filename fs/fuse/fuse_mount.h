#ifndef FS_FUSE_FUSE_MOUNT_H_
#define FS_FUSE_FUSE_MOUNT_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/fuse/file_table.h"
#include "fs/fuse/mount_options.h"
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

  const MountOptions& options() const { return options_; }
  const FileTable& files() const { return *files_; }

 private:
  FuseMount(MountOptions options, std::unique_ptr<FileTable> files)
      : options_(std::move(options)), files_(std::move(files)) {}

  absl::Status Mount();
  absl::Status Handshake();
  absl::Status ChooseModes(bool kernel_has_passthrough);
  void RaiseReadAhead() const;
  void Join();

  MountOptions options_;
  std::unique_ptr<FileTable> files_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::vector<std::thread> threads_;
  std::atomic<std::size_t> running_{0};
  UniqueFd ended_fd_;
  bool mounted_ = false;
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_FUSE_MOUNT_H_
