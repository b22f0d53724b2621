#include "transport/local/memory_channel.h"

#include <utility>

#include "transport/api/accounting.h"
#include "transport/api/validate.h"
#include "transport/local/memory_ops.h"

namespace oxmem::transport {

Limits MemoryLimits(const MappedMemory& memory, const MemoryChannelOptions& options) {
  Limits limits;
  limits.size_bytes = memory.size();
  limits.alignment_bytes = 1;
  limits.largest_request_bytes = options.largest_request_bytes;
  limits.depth = options.depth;
  limits.read_only = options.read_only || !memory.writable();
  limits.zero = true;
  limits.prefetch = true;
  limits.persistent = options.persistent;
  limits.atomics = AtomicOps::All();
  if (!memory.is_hugetlb()) limits.local_memory = LocalMemory{memory.fd(), memory.offset()};
  return limits;
}

MemoryChannel::MemoryChannel(std::shared_ptr<const MappedMemory> memory,
                             MemoryChannelOptions options)
    : memory_(std::move(memory)),
      name_(options.name),
      limits_(MemoryLimits(*memory_, options)),
      done_(options.depth) {}

std::size_t MemoryChannel::Submit(std::span<const Request> requests) {
  std::size_t taken = 0;
  Instant start = requests.empty() ? Instant() : Now();
  for (const Request& request : requests) {
    if (done_.full()) break;
    const Code code = closed_ ? Code::kClosed : Validate(request, limits_);
    const Completion completion = code == Code::kOk
                                      ? Execute(request, *memory_)
                                      : Completion{.cookie = request.cookie, .code = code};
    const Instant end = Now();
    CountCompletion(stats_, request.op, completion.code, completion.bytes, end - start);
    start = end;
    done_.Push(completion);
    ++taken;
  }
  stats_.in_flight.Set(done_.size());
  return taken;
}

std::size_t MemoryChannel::Poll(std::span<Completion> completions) {
  const std::size_t count = done_.Pop(completions);
  if (count != 0) stats_.in_flight.Set(done_.size());
  return count;
}

absl::StatusOr<MemoryHandle> MemoryChannel::Register(std::span<std::byte>) {
  return std::make_unique<NoRegistration>();
}

}  // namespace oxmem::transport
