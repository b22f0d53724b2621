#ifndef TRANSPORT_LOCAL_UNIX_SOCKET_H_
#define TRANSPORT_LOCAL_UNIX_SOCKET_H_

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/unique_fd.h"

namespace oxmem::transport {

// Packet sockets of the Unix domain. None of the calls waits.

// Listens at the path, which gets the mode. A socket that nobody listens at any more is replaced; a
// live one, or a file of another kind, is an error.
absl::StatusOr<UniqueFd> ListenUnix(const std::string& path, mode_t mode, int backlog);

absl::StatusOr<UniqueFd> ConnectUnix(const std::string& path);

// Sends one packet, with a descriptor if `passed_fd` is not -1. EAGAIN if there is no room.
absl::Status SendPacket(int socket, std::span<const std::byte> packet, int passed_fd = -1);

enum class Received : uint8_t { kPacket, kNothing, kHangUp, kTooLong };

// Takes one packet into the front of `buffer` and sets its length. A descriptor that came with it
// goes to `passed_fd`, if that is not null, and is closed otherwise.
Received ReceivePacket(int socket, std::span<std::byte> buffer, std::size_t* length,
                       UniqueFd* passed_fd);

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
// Of the process that connected, or that listened.
std::optional<PeerCredentials> CredentialsOfPeer(int socket);

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_UNIX_SOCKET_H_
