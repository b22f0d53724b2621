#ifndef TRANSPORT_API_BLOCKING_H_
#define TRANSPORT_API_BLOCKING_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/api/channel.h"
#include "transport/base/clock.h"

namespace oxmem::transport {

// For tools and tests: calls that wait, on a channel that the calling thread owns and that has
// nothing else under way. Front-ends never use them.

// Polls until something is finished or `until` has passed, sleeping on the channel's event_fd in
// between. Returns the number of completions; zero only when the time is over.
std::size_t PollOrWait(Channel& channel, std::span<Completion> completions, Instant until);

// Carries out one request, which the channel is able to take at once, and returns its completion.
// Waits for as long as the channel does: every channel completes what it accepted.
Completion Run(Channel& channel, const Request& request);

// Any length: split by the channel's largest request, as many parts at once as its depth allows.
// The first part that fails is reported, after all have ended. Offset and length are multiples of
// the channel's alignment.
absl::Status BlockingRead(Channel& channel, uint64_t offset, std::span<std::byte> buffer);
absl::Status BlockingWrite(Channel& channel, uint64_t offset, std::span<const std::byte> buffer);

absl::Status BlockingFlush(Channel& channel);
absl::Status BlockingZero(Channel& channel, uint64_t offset, uint64_t length);

// Returns the old value. `length` is 4 or 8.
absl::StatusOr<uint64_t> BlockingAtomic(Channel& channel, AtomicOp op, uint64_t offset,
                                        uint64_t length, uint64_t operand, uint64_t compare = 0);

// What a completion other than kOk means, as one line that names the channel, with the errno of
// the one table: "mem 1G: read of 4K at 0x1000: out of range". OK for kOk.
absl::Status StatusOfCompletion(const Channel& channel, const Request& request,
                                const Completion& completion);

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_BLOCKING_H_
