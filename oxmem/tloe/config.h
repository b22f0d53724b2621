#ifndef OXMEM_TLOE_CONFIG_H_
#define OXMEM_TLOE_CONFIG_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "oxmem/tilelink/codec.h"
#include "oxmem/tilelink/message.h"
#include "transport/base/clock.h"

namespace oxmem::tloe {

enum class Protocol : uint8_t {
  k103,  // OmniXtend 1.0.3: no message types, a connection just starts at sequence 0
  k11,   // the 1.1 proposal: open, close and acknowledge-only frames
};

enum class Role : uint8_t {
  kInitiator,  // starts the connection
  kResponder,  // waits for one
};

// How known endpoints depart from the specification; docs/wire-format.md has the table.
enum class PeerProfile : uint8_t {
  kAuto,  // found out during the handshake
  kSpec,
  kMemoryNode,
  kOmnixtendC,
  kOxmemNbd,   // an initiator
  kOxmemFuse,  // an initiator; answers must be enqueued in the order of its requests
};

struct EngineConfig {
  Role role = Role::kInitiator;
  Protocol protocol = Protocol::k11;
  PeerProfile peer = PeerProfile::kAuto;
  // Empty: what endpoints of the peer's profile use, kMemory for the software that copies memory to
  // the wire as it lies and kSpec for all others. Engine::data_order() says which.
  std::optional<tilelink::DataOrder> data_order;
  uint8_t virtual_channel = 0;  // 0-7

  // TLoE header, messages and mask of the longest frame, so the link's MTU. At least 56.
  std::size_t max_frame_bytes = 1500;
  // Section 3.2: the last flit position, 1-64, where a message may start.
  int max_start_of_message_flit = 64;

  // Frames sent and not acknowledged, at most (at least 8), and the memory that keeps them (at
  // least two of the longest frames and 7 KiB).
  std::size_t window_frames = 512;
  std::size_t resend_buffer_bytes = std::size_t{1} << 19;

  // Flits of each channel, A to E, that the receive buffer holds and so the peer is granted,
  // rounded down to powers of two by the credit field of a frame.
  std::array<uint32_t, tilelink::kChannelCount> receive_flits = {1 << 16, 1 << 10, 1 << 12, 1 << 16,
                                                                 1 << 10};

  // Timing. The resend timeout adapts to the measured round trip between the two bounds.
  Duration initial_resend_timeout = Duration::Milliseconds(20);
  Duration min_resend_timeout = Duration::Milliseconds(2);
  Duration max_resend_timeout = Duration::Milliseconds(500);
  // An acknowledgement alone waits for a quarter of the round trip, between these two.
  Duration min_ack_delay = Duration::Microseconds(100);
  Duration max_ack_delay = Duration::Microseconds(250);
  // The connection fails when the oldest frame stayed unacknowledged through this many resends.
  int max_resends = 12;
  // A handshake that is not answered is tried again after this, and fails after the next.
  Duration open_retry = Duration::Milliseconds(50);
  Duration open_timeout = Duration::Seconds(2);

  // The number of the first frame, in both directions. Zero says the specification; tests start
  // near the wrap.
  uint32_t initial_sequence = 0;
};

}  // namespace oxmem::tloe

#endif  // OXMEM_TLOE_CONFIG_H_
