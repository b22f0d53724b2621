#ifndef APPS_SERVE_LOCAL_ENDPOINT_H_
#define APPS_SERVE_LOCAL_ENDPOINT_H_

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/serve/endpoint.h"
#include "transport/base/unique_fd.h"
#include "transport/local/local_server.h"

namespace oxmem::apps {

// Hands the regions to processes of this host. Its thread sleeps but for connections and flushes:
// the data goes past it.
class LocalEndpoint final : public Endpoint {
 public:
  // See Endpoint::Open. Keys: mode= of the socket, octal, 0600 if not given.
  static absl::StatusOr<std::unique_ptr<Endpoint>> Open(const transport::Source& listen,
                                                        const RegionStore& store,
                                                        const EndpointOptions& options);
  ~LocalEndpoint() override;

  absl::Status Start() override;
  void RequestStop() override;
  void Join() override;
  const std::string& name() const override { return name_; }
  Part Figures() const override;

 private:
  LocalEndpoint(std::string name, std::unique_ptr<transport::LocalServer> server,
                UniqueFd stop_event);
  void Serve();

  const std::string name_;
  std::unique_ptr<transport::LocalServer> server_;
  UniqueFd stop_event_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

}  // namespace oxmem::apps

#endif  // APPS_SERVE_LOCAL_ENDPOINT_H_
