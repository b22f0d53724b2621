#ifndef APPS_COMMON_REQUEST_SERVER_H_
#define APPS_COMMON_REQUEST_SERVER_H_

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/common/event_loop.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// Answers one short request per stream connection and closes it: the shape that the control socket
// and the metrics endpoint share. A client that is slow, silent or talks too much is dropped, and
// so is one beyond the limit of connections.
class RequestServer {
 public:
  struct Options {
    std::string request_end;  // what ends a request: "\n" or "\r\n\r\n"
    std::size_t max_request_bytes = 4096;
    std::size_t max_connections = 32;
    Duration patience = Duration::Seconds(5);  // with one client
  };
  // The whole answer to a request, which comes without its end.
  using Handler = std::function<std::string(const std::string& request)>;

  // `listening_fd` listens already and does not block. The loop outlives the server.
  static absl::StatusOr<std::unique_ptr<RequestServer>> Start(EventLoop* loop,
                                                              UniqueFd listening_fd,
                                                              const Options& options,
                                                              Handler handler);
  ~RequestServer();
  RequestServer(const RequestServer&) = delete;
  RequestServer& operator=(const RequestServer&) = delete;

 private:
  struct Connection {
    UniqueFd fd;
    std::string request;
    std::string answer;
    std::size_t sent = 0;
    EventLoop::TimerId timer;
  };

  RequestServer(EventLoop* loop, UniqueFd listening_fd, const Options& options, Handler handler);
  absl::Status Listen();
  void OnConnection();
  void OnReady(int fd);
  // False if the connection is over.
  bool Receive(Connection& connection);
  bool Send(Connection& connection);
  void Drop(int fd);

  EventLoop* loop_;
  UniqueFd listening_fd_;
  Options options_;
  Handler handler_;
  std::map<int, Connection> connections_;
  std::optional<EventLoop::TimerId> listen_again_;  // there was no descriptor for who came
};

}  // namespace oxmem::apps

#endif  // APPS_COMMON_REQUEST_SERVER_H_
