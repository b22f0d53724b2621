#include "transport/local/local_server.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/base/size.h"
#include "transport/base/status.h"
#include "transport/local/unix_socket.h"

namespace oxmem::transport {
namespace {

constexpr int kBacklog = 128;

absl::Status CheckRegion(const LocalRegion& region) {
  struct stat status;
  if (fstat(region.fd, &status) != 0) {
    return ErrnoStatus(errno, absl::StrCat("region \"", region.name,
                                           "\" has no memory that other processes can map"));
  }
  // A device has no size here; mapping too much of it fails at the client.
  const auto file_bytes = static_cast<uint64_t>(status.st_size);
  if (S_ISREG(status.st_mode) && !RangeFits(region.offset, region.size_bytes, file_bytes)) {
    return absl::InvalidArgumentError(absl::StrCat("region \"", region.name, "\" is ",
                                                   FormatSize(region.size_bytes), " of a file of ",
                                                   FormatSize(file_bytes)));
  }
  return absl::OkStatus();
}

// A descriptor for reading only. The memory of a memfd has no name, but whoever has a descriptor
// could open it again for writing by way of /proc if its mode allowed that.
absl::StatusOr<UniqueFd> ReadOnlyDescriptor(const LocalRegion& region) {
  struct stat status;
  if (fstat(region.fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_nlink == 0) {
    static_cast<void>(fchmod(region.fd, region.read_only ? 0400 : 0600));
  }
  const std::string path = absl::StrCat("/proc/self/fd/", region.fd);
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    return ErrnoStatus(errno, absl::StrCat("cannot open region \"", region.name,
                                           "\" for reading only (is /proc mounted?)"));
  }
  return fd;
}

bool Allowed(const LocalServerOptions& options, uid_t user) {
  if (options.allow_users.empty() || user == 0 || user == geteuid()) return true;
  return std::find(options.allow_users.begin(), options.allow_users.end(), user) !=
         options.allow_users.end();
}

LocalOffer Refusal(int error, std::string text) {
  return {.error = static_cast<uint16_t>(error), .text = std::move(text)};
}

}  // namespace

LocalServer::LocalServer(LocalServerOptions options)
    : options_(std::move(options)), name_(absl::StrCat("unix:", options_.path)) {}

absl::StatusOr<std::unique_ptr<LocalServer>> LocalServer::Listen(LocalServerOptions options,
                                                                 std::vector<LocalRegion> regions) {
  std::unique_ptr<LocalServer> server(new LocalServer(std::move(options)));
  for (LocalRegion& region : regions) {
    OXMEM_RETURN_IF_ERROR(server->AddRegion(std::move(region)));
  }
  OXMEM_RETURN_IF_ERROR(server->StartListening());
  return server;
}

absl::Status LocalServer::AddRegion(LocalRegion region) {
  if (FindRegion(region.name) != nullptr || region.name.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("region \"", region.name, "\" is there twice or has no name"));
  }
  OXMEM_RETURN_IF_ERROR(CheckRegion(region));
  OXMEM_ASSIGN_OR_RETURN(UniqueFd read_only_fd, ReadOnlyDescriptor(region));
  auto added = std::make_unique<Region>();
  static_cast<LocalRegion&>(*added) = std::move(region);
  added->read_only_fd = std::move(read_only_fd);
  regions_.push_back(std::move(added));
  return absl::OkStatus();
}

absl::Status LocalServer::StartListening() {
  epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_.valid()) return ErrnoStatus(errno, "cannot create an epoll descriptor");
  OXMEM_ASSIGN_OR_RETURN(listener_, ListenUnix(options_.path, options_.mode, kBacklog));
  struct stat status;
  if (stat(options_.path.c_str(), &status) == 0) {
    socket_device_ = status.st_dev;
    socket_inode_ = status.st_ino;
  }
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), &event) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot wait for clients of ", name_));
  }
  return absl::OkStatus();
}

LocalServer::~LocalServer() {
  // Only the own socket: another node may have taken the place of one that was removed by hand.
  struct stat status;
  if (listener_.valid() && stat(options_.path.c_str(), &status) == 0 &&
      status.st_dev == socket_device_ && status.st_ino == socket_inode_) {
    unlink(options_.path.c_str());
  }
}

Instant LocalServer::next_deadline() const {
  Instant earliest = Instant::Never();
  for (const auto& client : clients_) {
    if (client->region == nullptr) earliest = std::min(earliest, client->deadline);
  }
  return earliest;
}

void LocalServer::Poll(Instant now) {
  std::array<epoll_event, 64> events;
  const int count = epoll_wait(epoll_.get(), events.data(), events.size(), 0);
  bool accept_some = false;
  for (int i = 0; i < count; ++i) {
    auto* const client = static_cast<Client*>(events[static_cast<std::size_t>(i)].data.ptr);
    if (client == nullptr) {
      accept_some = true;
    } else if (!ServeClient(*client)) {
      RemoveClient(client->socket.get());
    }
  }
  if (accept_some) AcceptClients(now);
  const std::size_t removed = std::erase_if(clients_, [now](const auto& client) {
    return client->region == nullptr && now >= client->deadline;
  });
  stats_.malformed.Add(removed);
  stats_.clients.Set(clients_.size());
}

void LocalServer::AcceptClients(Instant now) {
  while (true) {
    UniqueFd socket_fd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket_fd.valid()) {
      uint64_t suppressed = 0;
      if (errno != EAGAIN && errno != ECONNABORTED && log_limiter_.Allow(now, &suppressed)) {
        spdlog::warn("{}", std::string(ErrnoStatus(errno, name_ + ": cannot accept").message()));
      }
      return;
    }
    if (clients_.size() >= options_.max_clients) {
      stats_.refused.Increment();
      continue;
    }
    auto client = std::make_unique<Client>();
    client->socket = std::move(socket_fd);
    client->deadline = now + options_.handshake_timeout;
    epoll_event event{.events = EPOLLIN, .data = {.ptr = client.get()}};
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, client->socket.get(), &event) != 0) continue;
    clients_.push_back(std::move(client));
  }
}

bool LocalServer::ServeClient(Client& client) {
  // One packet at a time: a client that sends without end does not keep the others waiting.
  std::array<std::byte, kMaxLocalMessageBytes> buffer;
  std::size_t length = 0;
  switch (ReceivePacket(client.socket.get(), buffer, &length, nullptr)) {
    case Received::kNothing:
      return true;
    case Received::kHangUp:
      return false;
    case Received::kTooLong:
      break;
    case Received::kPacket:
      if (const auto message = DecodeLocalMessage(std::span(buffer).first(length))) {
        if (Handle(client, *message)) return true;
      }
      break;
  }
  stats_.malformed.Increment();
  return false;
}

bool LocalServer::Handle(Client& client, const LocalMessage& message) {
  if (const auto* hello = std::get_if<LocalHello>(&message); hello != nullptr) {
    if (client.region != nullptr) return false;
    const LocalOffer offer = Answer(*hello, client.socket.get(), &client.region);
    int fd = -1;
    if (client.region != nullptr) {
      fd = offer.read_only ? client.region->read_only_fd.get() : client.region->fd;
    }
    (fd >= 0 ? stats_.accepted : stats_.refused).Increment();
    // A client that was refused may ask again, until its time is over.
    return SendPacket(client.socket.get(), EncodeLocalMessage(offer), fd).ok();
  }
  if (const auto* flush = std::get_if<LocalFlush>(&message); flush != nullptr) {
    if (client.region == nullptr) return false;
    stats_.flushes.Increment();
    const absl::Status synced =
        client.region->sync == nullptr ? absl::OkStatus() : client.region->sync();
    const LocalFlushed answer{flush->id, static_cast<uint16_t>(ErrnoOf(synced))};
    return SendPacket(client.socket.get(), EncodeLocalMessage(answer)).ok();
  }
  return false;
}

LocalOffer LocalServer::Answer(const LocalHello& hello, int socket, const Region** region) const {
  if (hello.lowest_version > kLocalVersion || hello.highest_version < kLocalVersion) {
    return Refusal(EPROTONOSUPPORT, absl::StrCat("the node speaks version ", kLocalVersion));
  }
  const auto credentials = CredentialsOfPeer(socket);
  if (!credentials || !Allowed(options_, credentials->uid)) {
    return Refusal(EACCES, "the node does not admit this user");
  }
  const Region* const found = FindRegion(hello.region);
  if (found == nullptr) {
    return Refusal(ENOENT, hello.region.empty()
                               ? absl::StrCat("the node has several regions, choose one with "
                                              "region= (",
                                              RegionNames(), ")")
                               : absl::StrCat("the node has no region \"", hello.region,
                                              "\" (it has ", RegionNames(), ")"));
  }
  *region = found;
  return {.read_only = found->read_only || hello.read_only,
          .persistent = found->persistent,
          .size_bytes = found->size_bytes,
          .offset = found->offset,
          .text = found->name};
}

const LocalServer::Region* LocalServer::FindRegion(const std::string& name) const {
  if (name.empty() && regions_.size() == 1) return regions_.front().get();
  for (const auto& region : regions_) {
    if (region->name == name) return region.get();
  }
  return nullptr;
}

std::string LocalServer::RegionNames() const {
  if (regions_.empty()) return "none";
  std::string names;
  for (const auto& region : regions_) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", region->name);
  }
  return names;
}

void LocalServer::RemoveClient(int socket) {
  std::erase_if(clients_, [socket](const auto& client) { return client->socket.get() == socket; });
}

}  // namespace oxmem::transport
