#include "apps/mount/kept_mount.h"

#include <poll.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/status.h"
#include "transport/local/unix_socket.h"

namespace oxmem::apps {
namespace {

constexpr std::size_t kLongestPacket = 4096;
constexpr Duration kSendPatience = Duration::Seconds(10);

bool WaitFor(int socket, short events, Instant deadline) {
  pollfd ready{.fd = socket, .events = events, .revents = 0};
  for (;;) {
    const int count = poll(&ready, 1, PollTimeoutMs(Now(), deadline));
    if (count > 0) return true;
    if (count == 0 || errno != EINTR) return false;
  }
}

}  // namespace

absl::Status SendWord(int socket, KeeperWord word, const std::string& text, int fd) {
  std::vector<std::byte> packet(1 + text.size(), static_cast<std::byte>(word));
  if (!text.empty()) std::memcpy(packet.data() + 1, text.data(), text.size());
  const Instant deadline = Now() + kSendPatience;
  for (;;) {
    const absl::Status status = transport::SendPacket(socket, packet, fd);
    if (status.ok() || ErrnoOf(status) != EAGAIN) return status;
    if (!WaitFor(socket, POLLOUT, deadline)) return status;
  }
}

absl::StatusOr<KeeperMessage> ReceiveWord(int socket, Instant deadline) {
  std::array<std::byte, kLongestPacket> packet;
  for (;;) {
    if (!WaitFor(socket, POLLIN, deadline)) {
      return absl::DeadlineExceededError("the keeper of the mount does not answer");
    }
    KeeperMessage message;
    std::size_t length = 0;
    switch (transport::ReceivePacket(socket, packet, &length, &message.fd)) {
      case transport::Received::kNothing:
        continue;
      case transport::Received::kHangUp:
        return absl::UnavailableError(
            "the keeper of the mount, or who served it, has ended meanwhile; try again");
      case transport::Received::kTooLong:
        return absl::InternalError("the keeper of the mount says something that is too long");
      case transport::Received::kPacket:
        break;
    }
    const auto word = static_cast<uint8_t>(packet[0]);
    if (length == 0 || word < static_cast<uint8_t>(KeeperWord::kRecord) ||
        word > static_cast<uint8_t>(KeeperWord::kListening)) {
      return absl::InternalError("the keeper of the mount speaks another language");
    }
    message.word = static_cast<KeeperWord>(word);
    message.text.assign(reinterpret_cast<const char*>(packet.data()) + 1, length - 1);
    return message;
  }
}

absl::Status Store(KeeperMessage message, KeptMount* kept) {
  if (!message.fd.valid()) return absl::InternalError("a descriptor of the mount is missing");
  switch (message.word) {
    case KeeperWord::kRecord:
      kept->mount.record = std::move(message.fd);
      return absl::OkStatus();
    case KeeperWord::kAttributes:
      kept->mount.attributes = std::move(message.fd);
      return absl::OkStatus();
    case KeeperWord::kMemory:
      kept->memory.push_back(std::move(message.fd));
      return absl::OkStatus();
    case KeeperWord::kListening:
      kept->listening.push_back(std::move(message.fd));
      return absl::OkStatus();
    case KeeperWord::kFuse:
      kept->mount.fuse_fds.push_back(std::move(message.fd));
      return absl::OkStatus();
    case KeeperWord::kEnd:
    case KeeperWord::kKept:
    case KeeperWord::kServing:
    case KeeperWord::kOrphaned:
    case KeeperWord::kTake:
    case KeeperWord::kTaken:
    case KeeperWord::kLeave:
    case KeeperWord::kLeft:
    case KeeperWord::kLetGo:
    case KeeperWord::kBye:
      break;
  }
  return absl::InternalError("the keeper of the mount speaks out of turn");
}

}  // namespace oxmem::apps
