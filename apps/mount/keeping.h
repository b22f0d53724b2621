#ifndef APPS_MOUNT_KEEPING_H_
#define APPS_MOUNT_KEEPING_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/common/event_loop.h"
#include "apps/mount/keeper.h"

namespace oxmem::apps {

// What a server does to be kept: it has a keeper, and when that is killed it starts another one, at
// most five times in a minute. A server that is to have none gets one for a successor that asks.
// Runs on the event loop's thread.
//
//   forked ──Keep──▶ kept ──keeper killed──▶ alone ──at once, or when it may──▶ kept
class Keeping {
 public:
  // Forks the keeper if the plan has patience; to be called before any thread is started. The loop
  // is made later, since what the keeper inherits it has to close.
  static absl::StatusOr<std::unique_ptr<Keeping>> Start(KeeperPlan plan);
  ~Keeping();
  Keeping(const Keeping&) = delete;
  Keeping& operator=(const Keeping&) = delete;

  struct Server {
    EventLoop* loop = nullptr;  // outlives this
    std::string directory;      // for the log
    std::function<Keeper::Things()> things;
    std::function<void()> leave;  // a successor waits for this process to stop serving
  };
  // The mount is served: from now on it outlives this process, if there is a keeper.
  absl::Status Keep(Server server);

  // Whether the mount outlives this process.
  bool kept() const { return keeper_ != nullptr && !lent_; }

  // The mount has another record: whoever goes on with it must know.
  void Update();

  // Has a keeper there for a successor, which has a few seconds to ask it.
  absl::Status Lend();

  // The mount is not served any more: the successor gets it. False if it did not, as the keeper has
  // ended: then this process goes on with the mount, and GoesOn starts another keeper.
  bool SayLeft();
  void GoesOn();

 private:
  explicit Keeping(KeeperPlan plan) : plan_(std::move(plan)) {}
  absl::Status Begin(const KeeperPlan& plan);
  absl::Status Watch();
  void Hear();
  // What a killed keeper leaves behind.
  void ClearAway() const;
  void StartAgain();
  void StartAgainLater(Duration delay);

  KeeperPlan plan_;
  Server server_;
  std::unique_ptr<Keeper> keeper_;  // null: nobody keeps the mount
  bool lent_ = false;               // for a successor only
  std::vector<Instant> starts_;     // of keepers that followed killed ones, lately
};

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_KEEPING_H_
