#ifndef TRANSPORT_COMPOSE_COMPOSE_SOURCE_H_
#define TRANSPORT_COMPOSE_COMPOSE_SOURCE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/api/source.h"

namespace oxmem::transport {

// Opens a source of any scheme; the program that links the transports provides it.
using SourceOpener = std::function<absl::StatusOr<std::unique_ptr<Channel>>(const Source& source)>;

// Whether the scheme is one of those below.
bool IsComposed(const Source& source);

// Opens a channel made of others, which `open_nested` opens.
//
//   stripe:(A,B,…)?chunk=64K           one region over several
//   mirror:(A,B,…)?read=first|spread&copy=no
//                                      one region kept on all; copy=yes: A's content first goes to
//                                      the others
//   delay:(A)?latency=50us&jitter=0&seed=1
//   rate:(A)?bandwidth=100M&requests=0   bytes and requests a second
//   fault:(A)?fail=1%&fail_after=0&corrupt=0&short_submit=0&code=failed&skip=0&most=N&seed=1
//             &cut_after=N&cut_for=1h&timeout=5s
absl::StatusOr<std::unique_ptr<Channel>> OpenComposed(const Source& source,
                                                      const SourceOpener& open_nested);

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_COMPOSE_SOURCE_H_
