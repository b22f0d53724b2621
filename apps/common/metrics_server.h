#ifndef APPS_COMMON_METRICS_SERVER_H_
#define APPS_COMMON_METRICS_SERVER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/common/event_loop.h"
#include "apps/common/figures.h"
#include "apps/common/request_server.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// Answers GET /metrics over HTTP with PrometheusText; every other path with 404. Runs on the event
// loop's thread, which outlives it.
class MetricsServer {
 public:
  // `host_port` as in "127.0.0.1:9100", "[::1]:9100"; every address the host has is listened on.
  // Of `inherited`, sockets that listen already, those at one of the addresses are used for it.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      EventLoop* loop, const std::string& host_port, std::function<ProcessFigures()> figures,
      std::vector<UniqueFd> inherited = {});

  // For the process that comes after this one; they belong to the server.
  const std::vector<int>& listening_fds() const { return listening_fds_; }

 private:
  MetricsServer() = default;
  std::vector<std::unique_ptr<RequestServer>> servers_;
  std::vector<int> listening_fds_;
};

}  // namespace oxmem::apps

#endif  // APPS_COMMON_METRICS_SERVER_H_
