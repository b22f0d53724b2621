#include "transport/local/unix_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

constexpr int kSocketType = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;
constexpr std::size_t kMostPassedFds = 8;  // room for those of a peer that does not behave

absl::StatusOr<sockaddr_un> AddressOf(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return absl::InvalidArgumentError(absl::StrCat("socket path \"", path, "\" is ",
                                                   path.empty() ? "empty" : "too long", " (1 to ",
                                                   sizeof address.sun_path - 1, " bytes)"));
  }
  std::copy(path.begin(), path.end(), address.sun_path);
  return address;
}

// What stands at the path is removed if it is a socket without a listener.
absl::Status RemoveStale(const std::string& path) {
  struct stat status;
  if (lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? absl::OkStatus()
                           : ErrnoStatus(errno, absl::StrCat("cannot look at ", path));
  }
  if (!S_ISSOCK(status.st_mode)) {
    return absl::AlreadyExistsError(absl::StrCat(path, " is there and is not a socket"));
  }
  const absl::StatusOr<UniqueFd> listener = ConnectUnix(path);
  if (listener.ok() || ErrnoOf(listener.status()) != ECONNREFUSED) {
    return absl::AlreadyExistsError(absl::StrCat("another process listens at ", path));
  }
  if (unlink(path.c_str()) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot remove the stale socket ", path));
  }
  return absl::OkStatus();
}

// Two nodes that start at once must not both find a stale socket and remove the other's new one:
// they queue up at the directory.
UniqueFd LockDirectoryOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  UniqueFd fd(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Without a lock the check still works for all but that race.
  if (fd.valid()) static_cast<void>(flock(fd.get(), LOCK_EX));
  return fd;
}

}  // namespace

absl::StatusOr<UniqueFd> ListenUnix(const std::string& path, mode_t mode, int backlog) {
  OXMEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  UniqueFd socket_fd(socket(AF_UNIX, kSocketType, 0));
  if (!socket_fd.valid()) return ErrnoStatus(errno, "cannot create a socket");
  const UniqueFd lock = LockDirectoryOf(path);
  OXMEM_RETURN_IF_ERROR(RemoveStale(path));
  if (bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot make the socket ", path));
  }
  // Nobody can connect before listen, so there is no moment with the wrong mode.
  if (chmod(path.c_str(), mode) != 0 || listen(socket_fd.get(), backlog) != 0) {
    const int error = errno;
    unlink(path.c_str());
    return ErrnoStatus(error, absl::StrCat("cannot listen at ", path));
  }
  return socket_fd;
}

absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path) {
  OXMEM_ASSIGN_OR_RETURN(const sockaddr_un address, AddressOf(path));
  UniqueFd socket_fd(socket(AF_UNIX, kSocketType, 0));
  if (!socket_fd.valid()) return ErrnoStatus(errno, "cannot create a socket");
  if (connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot connect to ", path));
  }
  return socket_fd;
}

absl::Status SendPacket(int socket, std::span<const std::byte> packet, int passed_fd) {
  // sendmsg does not change what it sends.
  iovec piece{.iov_base = const_cast<std::byte*>(packet.data()), .iov_len = packet.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (passed_fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &passed_fd, sizeof passed_fd);
  }
  if (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) return ErrnoStatus(errno, "cannot send");
  return absl::OkStatus();
}

Received ReceivePacket(int socket, std::span<std::byte> buffer, std::size_t* length,
                       UniqueFd* passed_fd) {
  iovec piece{.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMostPassedFds * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return Received::kNothing;
  if (count <= 0) return Received::kHangUp;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < fds; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      UniqueFd received(fd);
      if (passed_fd != nullptr && !passed_fd->valid()) *passed_fd = std::move(received);
    }
  }
  *length = static_cast<std::size_t>(count);
  return (message.msg_flags & MSG_TRUNC) != 0 ? Received::kTooLong : Received::kPacket;
}

std::optional<PeerCredentials> CredentialsOfPeer(int socket) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return std::nullopt;
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

}  // namespace oxmem::transport
