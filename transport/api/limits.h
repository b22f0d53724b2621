#ifndef TRANSPORT_API_LIMITS_H_
#define TRANSPORT_API_LIMITS_H_

#include <cstdint>
#include <optional>

#include "transport/api/request.h"

namespace oxmem::transport {

// A region that lies in memory of this host and can be mapped: what DAX needs.
// The descriptor belongs to the channel and lives as long as it does.
struct LocalMemory {
  int fd = -1;
  uint64_t offset = 0;  // of the region in the file behind fd
};

// What a channel can do. Fixed once the channel is open.
struct Limits {
  uint64_t size_bytes = 0;             // of the region
  uint64_t alignment_bytes = 1;        // offset and length of reads and writes are multiples of it
  uint64_t largest_request_bytes = 0;  // longer reads and writes complete with kInvalid
  uint32_t depth = 0;                  // requests accepted and not completed, at most
  bool read_only = false;
  bool zero = false;                // has kZero
  bool prefetch = false;            // has kPrefetch
  bool needs_registration = false;  // buffers outside registered memory cost a copy
  bool persistent = false;          // written data survives the node process, so also a reconnect
  AtomicOps atomics;
  std::optional<LocalMemory> local_memory;
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_LIMITS_H_
