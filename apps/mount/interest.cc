#include "apps/mount/interest.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "apps/common/cli.h"
#include "transport/base/status.h"

namespace oxmem::apps {

absl::StatusOr<std::unique_ptr<Interest>> Interest::Watch(int waiting_fd, int signals_fd,
                                                          std::function<void()> undo) {
  std::unique_ptr<Interest> interest(new Interest());
  interest->done_.Reset(eventfd(0, EFD_CLOEXEC));
  if (!interest->done_.valid()) return ErrnoStatus(errno, "eventfd");
  interest->thread_ = std::thread(
      [waiting_fd, signals_fd, done_fd = interest->done_.get(), undo = std::move(undo)] {
        std::array<pollfd, 3> fds = {{
            {.fd = done_fd, .events = POLLIN, .revents = 0},
            {.fd = signals_fd, .events = POLLIN, .revents = 0},
            {.fd = waiting_fd, .events = 0, .revents = 0},
        }};
        while (poll(fds.data(), fds.size(), -1) < 0) {
        }
        if (fds[0].revents != 0) return;
        undo();
        _exit(kExitFailed);
      });
  return interest;
}

Interest::~Interest() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  (void)!write(done_.get(), &one, sizeof one);
  thread_.join();
}

}  // namespace oxmem::apps
