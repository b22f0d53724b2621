#include "fs/fuse/apart.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "transport/base/unique_fd.h"

namespace oxmem::fs {

int Apart(const std::function<int()>& work, Instant deadline) {
  const pid_t child = fork();
  if (child < 0) return errno;
  if (child == 0) {
    close_range(0, ~0u, 0);
    _exit(work());
  }
  if (!deadline.is_never()) {
    const UniqueFd life(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
    pollfd ended{.fd = life.get(), .events = POLLIN, .revents = 0};
    int ready = 0;
    do {
      ready = poll(&ended, 1, PollTimeoutMs(Now(), deadline));
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) {
      // It may end only with the mount; nobody waits for that.
      kill(child, SIGKILL);
      waitpid(child, nullptr, WNOHANG);
      return ETIMEDOUT;
    }
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return errno;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

}  // namespace oxmem::fs
