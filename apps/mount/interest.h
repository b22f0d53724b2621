#ifndef APPS_MOUNT_INTEREST_H_
#define APPS_MOUNT_INTEREST_H_

#include <functional>
#include <memory>
#include <thread>

#include "absl/status/statusor.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// Ends the process when nobody is interested any more in what it is about to do: while it opens
// sources, which may take as long as a node is silent. A thread of its own looks.
class Interest {
 public:
  // `waiting_fd` is the writing end of a pipe whose reader waits for this process, or -1;
  // `signals_fd` is readable when the process was told to stop. Both outlive this. `undo` is called
  // first, on the thread that looks, for what there is more than descriptors.
  static absl::StatusOr<std::unique_ptr<Interest>> Watch(int waiting_fd, int signals_fd,
                                                         std::function<void()> undo);

  // From now on the process is not ended.
  ~Interest();
  Interest(const Interest&) = delete;
  Interest& operator=(const Interest&) = delete;

 private:
  Interest() = default;
  UniqueFd done_;
  std::thread thread_;
};

}  // namespace oxmem::apps

#endif  // APPS_MOUNT_INTEREST_H_
