#ifndef APPS_SERVE_TLOE_ENDPOINT_H_
#define APPS_SERVE_TLOE_ENDPOINT_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/common/facts.h"
#include "apps/serve/endpoint.h"
#include "oxmem/link/address_watch.h"
#include "oxmem/node/node.h"
#include "transport/base/histogram.h"
#include "transport/base/lazy_timer.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// Drives one memory node on one link. The thread polls while frames come and for a moment after
// the last one, then sleeps until the next; nobody else touches the node while it runs.
class TloeEndpoint final : public Endpoint {
 public:
  // See Endpoint::Open. Keys: protocol=1.1|1.0.3, data_order=spec|memory, peer=…, mtu=, and of
  // Ethernet ethertype=, link=auto|packet|ring, of UDP hops=.
  static absl::StatusOr<std::unique_ptr<Endpoint>> Open(const transport::Source& listen,
                                                        const RegionStore& store,
                                                        const EndpointOptions& options);
  ~TloeEndpoint() override;

  absl::Status Start() override;
  void RequestStop() override;
  void Join() override;
  const std::string& name() const override { return name_; }
  Part Figures() const override;
  int address_fd() const override { return address_watch_ ? address_watch_->fd() : -1; }
  void WatchAddress() override;

 private:
  TloeEndpoint(std::string name, Facts facts, const EndpointOptions& options,
               std::unique_ptr<node::Node> node, LazyTimer timer);
  void Serve();
  void Close();
  // Sleeps until a frame, the node's next deadline, the stop event, or `until`.
  void Sleep(Instant now, Instant until);
  // Says once when the link breaks and once when it works again.
  void WatchLink();

  const std::string name_;
  const Facts facts_;
  const EndpointOptions options_;
  std::unique_ptr<node::Node> node_;
  std::optional<link::AddressWatch> address_watch_;  // of the thread that calls, not of thread_
  Instant next_announcement_;
  bool shared_address_ = false;
  UniqueFd stop_event_;
  LazyTimer timer_;
  std::atomic<bool> stop_ = false;
  bool link_ok_ = true;
  Histogram service_time_;
  std::thread thread_;
};

}  // namespace oxmem::apps

#endif  // APPS_SERVE_TLOE_ENDPOINT_H_
