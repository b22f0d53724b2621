#ifndef APPS_SERVE_ENDPOINT_H_
#define APPS_SERVE_ENDPOINT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/common/figures.h"
#include "apps/serve/region_store.h"
#include "oxmem/link/mac_address.h"
#include "transport/api/source.h"
#include "transport/base/clock.h"

namespace oxmem::apps {

// What all endpoints of a node have in common.
struct EndpointOptions {
  std::vector<link::MacAddress> allowed;  // empty: everybody
  uint32_t max_connections = 64;
  Duration spin = Duration::Microseconds(50);  // to poll for frames before sleeping
  int cpu = -1;                                // to keep the thread on; -1: where the kernel likes
};

// One --listen of a node: a way to its regions, served by a thread of its own. All methods are
// called by one other thread.
class Endpoint {
 public:
  // Opens what it listens on; frames that arrive from now on are not lost. The store outlives it.
  //
  //   tloe://IFACE[/MAC]     frames for the interface's address, or for MAC
  //   tloe+udp://HOST:PORT   the same frames in UDP; HOST * is every address
  //   unix:PATH              the memory itself, for processes of this host
  //   shm://NAME             the same, at a path that follows from the name
  static absl::StatusOr<std::unique_ptr<Endpoint>> Open(const transport::Source& listen,
                                                        const RegionStore& store,
                                                        const EndpointOptions& options);

  virtual ~Endpoint() = default;
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

  virtual absl::Status Start() = 0;

  // Tells the peers that the service ends. Returns at once; Join returns when they know, or did
  // not answer for a moment.
  virtual void RequestStop() = 0;
  virtual void Join() = 0;

  // "tloe://eth1/02:00:00:00:00:01": what a user would write to reach it.
  virtual const std::string& name() const = 0;
  virtual Part Figures() const = 0;

  // Of an endpoint that others on its network may have the address of: readable when WatchAddress
  // has something to do, which is also called now and then. -1: nothing to watch.
  virtual int address_fd() const { return -1; }
  virtual void WatchAddress() {}

 protected:
  Endpoint() = default;
};

}  // namespace oxmem::apps

#endif  // APPS_SERVE_ENDPOINT_H_
