#ifndef TRANSPORT_COMPOSE_COMPOSE_SOURCE_H_
#define TRANSPORT_COMPOSE_COMPOSE_SOURCE_H_

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/api/source.h"
#include "transport/compose/mirror_state.h"

namespace oxmem::transport {

// Opens a source of any scheme; the program that links the transports provides it.
using SourceOpener = std::function<absl::StatusOr<std::unique_ptr<Channel>>(const Source& source)>;

// What all channels of one mirror share beyond what the source says.
struct MirrorShare {
  std::shared_ptr<MirrorState> state;  // null: the channel has one of its own
  // Opens a leg that could not be opened with the channel. Called by other threads, as long as the
  // channel lives. Needed with a state that was adopted.
  std::function<absl::StatusOr<std::unique_ptr<Channel>>(std::size_t leg)> open_later;
};

// Whether the scheme is one of those below.
bool IsComposed(const Source& source);

// Opens a channel made of others, which `open_nested` opens.
//
//   stripe:(A,B,…)?chunk=64K           one region over several
//   mirror:(A,B,…)?read=first|spread&copy=no
//                                      one region kept on all; copy=yes: A's content first goes to
//                                      the others, if the mirror is a new one
//   delay:(A)?latency=50us&jitter=0&seed=1
//   rate:(A)?bandwidth=100M&requests=0   bytes and requests a second
//   fault:(A)?fail=1%&fail_after=0&corrupt=0&short_submit=0&code=failed&skip=0&most=N&seed=1
//             &cut_after=N&cut_for=1h&timeout=5s
// A mirror whose state was adopted is opened with the legs that are there, if one of them is in
// sync; the others count as lost.
absl::StatusOr<std::unique_ptr<Channel>> OpenComposed(const Source& source,
                                                      const SourceOpener& open_nested,
                                                      const MirrorShare& share = {});

}  // namespace oxmem::transport

#endif  // TRANSPORT_COMPOSE_COMPOSE_SOURCE_H_
