#include "apps/common/metrics_server.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/common/metrics_answer.h"
#include "transport/api/source.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

absl::StatusOr<UniqueFd> ListenAt(const addrinfo& address, const std::string& host_port) {
  const auto error = [&](const char* what) {
    return ErrnoStatus(errno, absl::StrCat("metrics: cannot ", what, " ", host_port,
                                           " (is the address of this host, "
                                           "and the port free?)"));
  };
  UniqueFd fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return error("create a socket for");
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.ai_family == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  if (bind(fd.get(), address.ai_addr, address.ai_addrlen) != 0) return error("bind to");
  if (listen(fd.get(), 16) != 0) return error("listen on");
  return fd;
}

bool ListensAt(int fd, const addrinfo& address) {
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  return getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0 &&
         length == address.ai_addrlen && std::memcmp(&own, address.ai_addr, length) == 0;
}

// One that listens there already, or a new one.
absl::StatusOr<UniqueFd> ListenerAt(const addrinfo& address, const std::string& host_port,
                                    std::vector<UniqueFd>* inherited) {
  const auto found = std::find_if(inherited->begin(), inherited->end(),
                                  [&](const UniqueFd& fd) { return ListensAt(fd.get(), address); });
  if (found == inherited->end()) return ListenAt(address, host_port);
  UniqueFd fd = std::move(*found);
  inherited->erase(found);
  return fd;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    EventLoop* loop, const std::string& host_port, std::function<ProcessFigures()> figures,
    std::vector<UniqueFd> inherited) {
  OXMEM_ASSIGN_OR_RETURN(const transport::HostPort where, transport::ParseHostPort(host_port));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found);
  if (failed != 0) {
    return absl::NotFoundError(
        absl::StrCat("metrics: cannot resolve ", host_port, ": ", gai_strerror(failed)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  RequestServer::Options options;
  options.request_end = "\r\n\r\n";
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    OXMEM_ASSIGN_OR_RETURN(UniqueFd fd, ListenerAt(*address, host_port, &inherited));
    server->listening_fds_.push_back(fd.get());
    OXMEM_ASSIGN_OR_RETURN(auto one, RequestServer::Start(loop, std::move(fd), options,
                                                          [figures](const std::string& request) {
                                                            return MetricsAnswer(request, figures);
                                                          }));
    server->servers_.push_back(std::move(one));
  }
  return server;
}

}  // namespace oxmem::apps
