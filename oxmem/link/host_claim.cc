#include "oxmem/link/host_claim.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "transport/base/check.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

constexpr std::string_view kPrefix = "oxmem/";

// "process 123 (oxmem)", or as much of it as can be found out.
std::string HolderOf(const sockaddr_un& address, socklen_t length) {
  const UniqueFd asker(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ucred holder = {};
  socklen_t size = sizeof holder;
  if (!asker.valid() ||
      connect(asker.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      getsockopt(asker.get(), SOL_SOCKET, SO_PEERCRED, &holder, &size) != 0 || holder.pid == 0) {
    return "another process";
  }
  std::ifstream file(absl::StrCat("/proc/", holder.pid, "/comm"));
  std::string name;
  std::getline(file, name);
  return absl::StrCat("process ", holder.pid, name.empty() ? "" : absl::StrCat(" (", name, ")"));
}

}  // namespace

// An abstract Unix socket: the kernel keeps such names per network namespace and drops them with
// the process, so that there is no file to be left behind.
absl::StatusOr<UniqueFd> ClaimOnHost(std::string_view what) {
  sockaddr_un address = {};
  OXMEM_CHECK(1 + kPrefix.size() + what.size() <= sizeof address.sun_path);
  address.sun_family = AF_UNIX;
  char* path = address.sun_path + 1;
  std::memcpy(path, kPrefix.data(), kPrefix.size());
  std::memcpy(path + kPrefix.size(), what.data(), what.size());
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + kPrefix.size() + what.size());
  UniqueFd claim(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!claim.valid()) return ErrnoStatus(errno, "opening a Unix socket");
  if (bind(claim.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0) {
    if (errno != EADDRINUSE) return ErrnoStatus(errno, "claiming an address on this host");
    return absl::AlreadyExistsError(HolderOf(address, length));
  }
  // Others learn from a connection who the holder is.
  if (listen(claim.get(), 1) != 0) return ErrnoStatus(errno, "claiming an address on this host");
  return claim;
}

}  // namespace oxmem::link
