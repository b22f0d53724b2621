#ifndef APPS_OXMEM_SERVE_RUN_H_
#define APPS_OXMEM_SERVE_RUN_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "apps/serve/endpoint.h"
#include "apps/serve/region_spec.h"
#include "transport/api/source.h"

namespace oxmem::apps {

// `oxmem serve`, its words understood.
struct ServeOptions {
  std::string name;
  std::vector<RegionSpec> regions;
  std::vector<transport::Source> listens;
  EndpointOptions endpoint;  // of each
  std::vector<int> cpus;     // for the endpoints' threads, in turn; empty: no placement
  std::string stats_file;    // empty: none
  Duration stat_interval;
  std::string prometheus;  // HOST:PORT; empty: none
};

// Serves until SIGINT, SIGTERM or SIGHUP, then says goodbye to the peers. An error means that it
// could not begin: nothing has been served then.
absl::Status Serve(const ServeOptions& options);

}  // namespace oxmem::apps

#endif  // APPS_OXMEM_SERVE_RUN_H_
