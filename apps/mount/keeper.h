#ifndef APPS_MOUNT_KEEPER_H_
#define APPS_MOUNT_KEEPER_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/mount/kept_mount.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// How long a mount is kept without a server, and who makes the next one.
struct KeeperPlan {
  Duration patience;  // none: only for a successor, and the keeper ends when there is none
  // Serves the mount whose keeper is at the other end of the socket; runs in a process of its own
  // and does not return. Empty: a service manager or the user starts the next server.
  std::function<void(UniqueFd keeper, const KeeperPlan& plan)> restart;
  std::vector<Instant> restarts;  // that led here
  // The same for a keeper that is this program started anew (keeper_command.h): the mount's words,
  // and where relative paths in them begin.
  std::vector<std::string> words;
  std::string directory;
};

// The server's end of its keeper: a small process that holds what a mount lives in, so that
// programs which use the mount wait for the next server when this one dies. Used by one thread.
class Keeper {
 public:
  // Forks it; to be called before any thread is started.
  static absl::StatusOr<std::unique_ptr<Keeper>> Start(const KeeperPlan& plan);
  // Starts this program anew for it, which may be done at any time.
  static absl::StatusOr<std::unique_ptr<Keeper>> StartAnew(const KeeperPlan& plan);

  // Lets the keeper end, unless it was left with the mount, and waits for that. One that was killed
  // is not waited for by anybody else.
  ~Keeper();
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;

  struct Things {
    int record = -1;
    int attributes = -1;
    std::vector<int> fuse_fds;
    std::vector<int> memory;
    std::vector<int> listening;
    bool survives_its_server = false;
    std::string socket_path;  // where successors ask; empty: nowhere
  };
  // From now on the mount outlives this process.
  absl::Status Keep(const Things& things);
  // The mount has another record now.
  absl::Status Update(int record);
  // Why no successor can ask this keeper; empty if it can.
  const std::string& deaf() const { return deaf_; }

  // Readable when Hear has something to say.
  int fd() const { return socket_.get(); }
  enum class Heard { kNothing, kLeave, kEnded };
  // kLeave: a successor waits for this process to stop serving. kEnded: the keeper was killed.
  Heard Hear();

  // The mount is not served any more. False if no successor got it, as the keeper has ended.
  bool SayLeft();

 private:
  void Bury();
  Keeper(UniqueFd socket, pid_t pid) : socket_(std::move(socket)), pid_(pid) {}
  UniqueFd socket_;
  pid_t pid_;
  std::string deaf_;
};

// A successor's end of the keeper of a mount.
class Predecessor {
 public:
  // At the end of the keeper's socket: asks, and waits for the answer.
  static absl::StatusOr<std::unique_ptr<Predecessor>> Ask(UniqueFd socket);
  // The same at the path where it listens. kNotFound if there is no keeper.
  static absl::StatusOr<std::unique_ptr<Predecessor>> AskAt(const std::string& path);

  // Whether another process serves the mount.
  bool serving() const { return serving_; }
  int record_fd() const { return kept_.mount.record.get(); }
  std::vector<UniqueFd> TakeMemory() { return std::move(kept_.memory); }
  std::vector<UniqueFd> TakeListening() { return std::move(kept_.listening); }

  // The record and the attributes; record_fd() is of no use any more.
  fs::LiveMount TakeLife() { return std::move(kept_.mount); }

  // Has the other process stop serving, if there is one; then the mount is this one's to serve, by
  // these descriptors.
  absl::StatusOr<std::vector<UniqueFd>> Take();
  // The mount is served and kept again: the old keeper ends.
  void Taken();
  // Has the keeper of a mount that nobody serves give it up, and waits for that.
  void LetGo();

 private:
  explicit Predecessor(UniqueFd socket) : socket_(std::move(socket)) {}
  UniqueFd socket_;
  KeptMount kept_;
  bool serving_ = false;
};

// Where the keeper of the mount at the directory listens; an error if nothing of ours is mounted
// there, or there is no place for sockets.
absl::StatusOr<std::string> KeeperPath(const std::string& directory);
// The same for a mount whose number is known (OurMount::device).
absl::StatusOr<std::string> KeeperPathOf(const std::string& device);

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_KEEPER_H_
