#include "apps/serve/endpoint.h"

#include "absl/strings/str_cat.h"
#include "apps/serve/local_endpoint.h"
#include "apps/serve/tloe_endpoint.h"

namespace oxmem::apps {

absl::StatusOr<std::unique_ptr<Endpoint>> Endpoint::Open(const transport::Source& listen,
                                                         const RegionStore& store,
                                                         const EndpointOptions& options) {
  if (listen.scheme == "tloe" || listen.scheme == "tloe+udp") {
    return TloeEndpoint::Open(listen, store, options);
  }
  if (listen.scheme == "unix" || listen.scheme == "shm") {
    return LocalEndpoint::Open(listen, store, options);
  }
  return absl::InvalidArgumentError(absl::StrCat("cannot listen on \"", listen.Format(),
                                                 "\": unknown scheme \"", listen.scheme,
                                                 "\" (known: tloe, tloe+udp, unix, shm)"));
}

}  // namespace oxmem::apps
