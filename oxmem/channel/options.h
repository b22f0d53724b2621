#ifndef OXMEM_CHANNEL_OPTIONS_H_
#define OXMEM_CHANNEL_OPTIONS_H_

#include <cstdint>

#include "oxmem/tloe/config.h"
#include "transport/base/clock.h"
#include "transport/base/unique_fd.h"

namespace oxmem::channel {

// What a requester channel is told about its endpoint and about itself.
struct Options {
  uint64_t size_bytes = 0;    // of the region as the user sees it
  uint64_t base_address = 0;  // of its first byte in the endpoint's address space
  bool read_only = false;
  uint32_t depth = 256;  // requests under way
  uint64_t largest_request_bytes = 1ull << 20;
  uint8_t largest_message_size =
      0;  // log2 of the data of one TileLink message; 0: what a frame holds
  Duration request_timeout = Duration::Seconds(5);
  Duration connect_timeout = Duration::Seconds(2);
  UniqueFd claim;             // kept as long as the channel lives; see link::ClaimOnHost
  tloe::EngineConfig engine;  // role and frame size are set by the channel
};

}  // namespace oxmem::channel

#endif  // OXMEM_CHANNEL_OPTIONS_H_
