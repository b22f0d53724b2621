#include "transport/local/local_client.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/size.h"
#include "transport/base/status.h"
#include "transport/local/unix_socket.h"

namespace oxmem::transport {
namespace {

absl::Status DescribeConnectFailure(const absl::Status& status, const std::string& path) {
  const int error = ErrnoOf(status);
  const char* advice = "";
  if (error == ENOENT || error == ECONNREFUSED) {
    advice = " (no node listens there; start one with oxmem serve --listen)";
  } else if (error == EACCES) {
    advice = " (the socket's mode does not let this user in)";
  } else if (error == EPROTOTYPE) {
    advice = " (this is not the socket of a node)";
  }
  if (*advice == '\0') return status;
  return ErrnoStatus(error, absl::StrCat("cannot connect to ", path, advice));
}

// Words of another process: shown, but not obeyed by a terminal.
std::string Printable(std::string text) {
  for (char& c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalConnection>> LocalConnection::Connect(
    const LocalTarget& target) {
  absl::Status failure = absl::InvalidArgumentError("no socket to connect to");
  for (const std::string& path : target.paths) {
    absl::StatusOr<UniqueFd> socket_fd = ConnectUnix(path);
    if (!socket_fd.ok()) {
      failure = DescribeConnectFailure(socket_fd.status(), path);
      continue;
    }
    std::unique_ptr<LocalConnection> connection(new LocalConnection(*std::move(socket_fd), path));
    OXMEM_RETURN_IF_ERROR(SendPacket(
        connection->socket(),
        EncodeLocalMessage(LocalHello{.read_only = target.read_only, .region = target.region})));
    return connection;
  }
  return failure;
}

absl::StatusOr<bool> LocalConnection::Progress() {
  std::array<std::byte, kMaxLocalMessageBytes> buffer;
  std::size_t length = 0;
  UniqueFd fd;
  switch (ReceivePacket(socket_.get(), buffer, &length, &fd)) {
    case Received::kNothing:
      return false;
    case Received::kHangUp:
      return absl::UnavailableError("the node ended the connection instead of answering");
    case Received::kTooLong:
      return absl::InternalError("the node's answer is not understood");
    case Received::kPacket:
      break;
  }
  const auto message = DecodeLocalMessage(std::span(buffer).first(length));
  const LocalOffer* const offer = message ? std::get_if<LocalOffer>(&*message) : nullptr;
  if (offer == nullptr) return absl::InternalError("the node's answer is not understood");
  if (offer->error != 0) {
    return absl::Status(absl::ErrnoToStatusCode(offer->error), Printable(offer->text));
  }
  if (offer->version != kLocalVersion) {
    return absl::InternalError(absl::StrCat("the node answers in version ", offer->version));
  }
  offer_ = *offer;
  OXMEM_RETURN_IF_ERROR(Accept(std::move(fd)));
  return true;
}

std::string LocalConnection::region() const { return Printable(offer_.text); }

absl::Status LocalConnection::Accept(UniqueFd fd) {
  if (!fd.valid()) return absl::InternalError("the node sent no memory");
  if (offer_.size_bytes == 0) return absl::InternalError("the node sent a region of 0 bytes");
  OXMEM_RETURN_IF_ERROR(CheckDescriptor(fd.get()));
  OXMEM_ASSIGN_OR_RETURN(memory_, MappedMemory::Map(std::move(fd), offer_.offset, offer_.size_bytes,
                                                    /*writable=*/!offer_.read_only));
  return absl::OkStatus();
}

// Pages that are cut off under a mapping kill the process that touches them. A seal rules it out;
// without one, only those are trusted who could kill us anyway.
absl::Status LocalConnection::CheckDescriptor(int fd) const {
  struct stat status;
  if (fstat(fd, &status) != 0) return ErrnoStatus(errno, "cannot look at the node's memory");
  const auto file_bytes = static_cast<uint64_t>(status.st_size);
  if (S_ISREG(status.st_mode) && !RangeFits(offer_.offset, offer_.size_bytes, file_bytes)) {
    return absl::InternalError(absl::StrCat("the node offers ", FormatSize(offer_.size_bytes),
                                            " of a file of ", FormatSize(file_bytes)));
  }
  if (!S_ISREG(status.st_mode) && !S_ISCHR(status.st_mode)) {
    return absl::InternalError("what the node sent is no memory");
  }
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals >= 0 && (seals & F_SEAL_SHRINK) != 0) return absl::OkStatus();
  const auto credentials = CredentialsOfPeer(socket_.get());
  if (credentials && (credentials->uid == 0 || credentials->uid == geteuid())) {
    return absl::OkStatus();
  }
  return absl::PermissionDeniedError(
      "the node of another user offers memory that it could take away (its size is not sealed)");
}

}  // namespace oxmem::transport
