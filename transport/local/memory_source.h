#ifndef TRANSPORT_LOCAL_MEMORY_SOURCE_H_
#define TRANSPORT_LOCAL_MEMORY_SOURCE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/api/source.h"
#include "transport/base/unique_fd.h"
#include "transport/local/mapped_memory.h"

namespace oxmem::transport {

// mem:?size=1G — memory of this process itself, zero at the beginning, gone at the end. Pages are
// taken from the system when they are first touched.
//
//   size=   bytes, default 1G
//   huge=   no (default); transparent: asks for transparent huge pages, where the kernel gives them
//           to shared memory; reserved: the system's reserved 2 MiB pages (no FUSE passthrough)
//   depth=  requests accepted and not yet polled, default 256
class MemorySource {
 public:
  static absl::StatusOr<MemorySource> Create(const Source& source);

  // The same over memory that Create made in another process, with what is in it.
  static absl::StatusOr<MemorySource> Adopt(const Source& source, UniqueFd memory);

  // One more channel to the same memory; each belongs to one thread. The memory lives as long as
  // the longest-living of its channels and this.
  std::unique_ptr<Channel> OpenChannel() const;

  const std::shared_ptr<MappedMemory>& memory() const { return memory_; }

 private:
  MemorySource(std::shared_ptr<MappedMemory> memory, uint32_t depth)
      : memory_(std::move(memory)), depth_(depth) {}

  std::shared_ptr<MappedMemory> memory_;
  uint32_t depth_;
};

// Memory with a single channel to it.
absl::StatusOr<std::unique_ptr<Channel>> OpenMemory(const Source& source);

enum class HugePages : uint8_t { kNo, kTransparent, kReserved };

// Anonymous memory behind a memfd whose size is sealed: no other holder of the descriptor can take
// pages away from under a mapping. `size_bytes` is not zero, and for kReserved a multiple of 2 MiB.
absl::StatusOr<std::shared_ptr<MappedMemory>> CreateMemory(uint64_t size_bytes, HugePages huge);

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_MEMORY_SOURCE_H_
