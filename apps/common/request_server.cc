#include "apps/common/request_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "transport/base/log.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr Duration kRetry = Duration::Milliseconds(100);

}  // namespace

absl::StatusOr<std::unique_ptr<RequestServer>> RequestServer::Start(EventLoop* loop,
                                                                    UniqueFd listening_fd,
                                                                    const Options& options,
                                                                    Handler handler) {
  std::unique_ptr<RequestServer> server(
      new RequestServer(loop, std::move(listening_fd), options, std::move(handler)));
  OXMEM_RETURN_IF_ERROR(server->Listen());
  return server;
}

RequestServer::RequestServer(EventLoop* loop, UniqueFd listening_fd, const Options& options,
                             Handler handler)
    : loop_(loop),
      listening_fd_(std::move(listening_fd)),
      options_(options),
      handler_(std::move(handler)) {}

RequestServer::~RequestServer() {
  while (!connections_.empty()) Drop(connections_.begin()->first);
  loop_->Unwatch(listening_fd_.get());
  if (listen_again_.has_value()) loop_->Cancel(*listen_again_);
}

absl::Status RequestServer::Listen() {
  return loop_->Watch(listening_fd_.get(), EPOLLIN, [this](uint32_t) { OnConnection(); });
}

void RequestServer::OnConnection() {
  UniqueFd fd(accept4(listening_fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid() && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
    // Who came waits with the system; it would be reported again and again.
    loop_->Unwatch(listening_fd_.get());
    listen_again_ = loop_->After(kRetry, [this] {
      listen_again_.reset();
      const absl::Status listening = Listen();
      if (!listening.ok()) spdlog::warn("{}", std::string(listening.message()));
    });
    return;
  }
  if (!fd.valid() || connections_.size() >= options_.max_connections) return;
  const int number = fd.get();
  const absl::Status watched =
      loop_->Watch(number, EPOLLIN, [this, number](uint32_t) { OnReady(number); });
  if (!watched.ok()) {
    spdlog::warn("a client was dropped: {}", std::string(watched.message()));
    return;
  }
  Connection& connection = connections_[number];
  connection.fd = std::move(fd);
  connection.timer = loop_->After(options_.patience, [this, number] { Drop(number); });
}

void RequestServer::OnReady(int fd) {
  Connection& connection = connections_.at(fd);
  if (connection.answer.empty() && !Receive(connection)) {
    Drop(fd);
    return;
  }
  if (connection.answer.empty()) return;
  if (!Send(connection)) Drop(fd);
}

bool RequestServer::Receive(Connection& connection) {
  std::array<char, 1024> bytes;
  const ssize_t count = recv(connection.fd.get(), bytes.data(), bytes.size(), 0);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (count == 0) return false;
  connection.request.append(bytes.data(), static_cast<std::size_t>(count));
  const std::size_t end = connection.request.find(options_.request_end);
  if (end == std::string::npos) return connection.request.size() <= options_.max_request_bytes;
  connection.answer = handler_(connection.request.substr(0, end));
  return !connection.answer.empty();
}

// Returns false once everything is sent, too: the connection is over then.
bool RequestServer::Send(Connection& connection) {
  while (connection.sent < connection.answer.size()) {
    const ssize_t count = send(connection.fd.get(), connection.answer.data() + connection.sent,
                               connection.answer.size() - connection.sent, MSG_NOSIGNAL);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
      const int fd = connection.fd.get();
      return loop_->Watch(fd, EPOLLOUT, [this, fd](uint32_t) { OnReady(fd); }).ok();
    }
    if (count <= 0) return false;
    connection.sent += static_cast<std::size_t>(count);
  }
  return false;
}

void RequestServer::Drop(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  loop_->Cancel(found->second.timer);
  loop_->Unwatch(fd);
  connections_.erase(found);
}

}  // namespace oxmem::apps
