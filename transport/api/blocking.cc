#include "transport/api/blocking.h"

#include <poll.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/base/check.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::transport {
namespace {

const char* OpName(Op op) {
  switch (op) {
    case Op::kRead:
      return "read";
    case Op::kWrite:
      return "write";
    case Op::kFlush:
      return "flush";
    case Op::kAtomic:
      return "atomic operation";
    case Op::kZero:
      return "zeroing";
    case Op::kPrefetch:
      return "prefetch";
  }
  OXMEM_CHECK(false);
}

// A descriptor of -1 is one that poll ignores, so a channel without one sleeps until the deadline.
void Sleep(int fd, Instant until) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  if (until.is_never()) {
    OXMEM_CHECK(fd >= 0);
    ppoll(&entry, 1, nullptr, nullptr);
    return;
  }
  const int64_t rest = std::max<int64_t>((until - Now()).nanoseconds(), 0);
  const timespec timeout{.tv_sec = rest / 1000000000, .tv_nsec = rest % 1000000000};
  ppoll(&entry, 1, &timeout, nullptr);
}

// Runs a long transfer: parts are numbered by their cookies.
absl::Status Transfer(Channel& channel, Op op, uint64_t offset, std::byte* buffer,
                      uint64_t length) {
  const uint64_t alignment = channel.limits().alignment_bytes;
  const uint64_t part_bytes =
      std::max(channel.limits().largest_request_bytes / alignment, uint64_t{1}) * alignment;
  const auto part = [&](uint64_t index) {
    const uint64_t begin = index * part_bytes;
    return Request{.op = op,
                   .offset = offset + begin,
                   .length = std::min(part_bytes, length - begin),
                   .buffer = buffer + begin,
                   .cookie = index};
  };
  const uint64_t parts = length == 0 ? 1 : (length - 1) / part_bytes + 1;
  absl::Status first_error;
  uint64_t submitted = 0;
  uint64_t completed = 0;
  std::array<Completion, 32> completions;
  while (completed < parts) {
    bool full = false;
    while (submitted < parts && !full && first_error.ok()) {
      const Request request = part(submitted);
      full = channel.Submit({&request, 1}) == 0;
      if (!full) ++submitted;
    }
    if (!first_error.ok() && completed == submitted) break;
    const std::size_t count = PollOrWait(channel, completions, Instant::Never());
    for (const Completion& completion : std::span(completions).first(count)) {
      ++completed;
      if (completion.code == Code::kOk || !first_error.ok()) continue;
      first_error = StatusOfCompletion(channel, part(completion.cookie), completion);
    }
  }
  return first_error;
}

}  // namespace

std::size_t PollOrWait(Channel& channel, std::span<Completion> completions, Instant until) {
  while (true) {
    const std::size_t count = channel.Poll(completions);
    if (count != 0) return count;
    if (!until.is_never() && Now() >= until) return 0;
    if (!channel.Arm()) continue;
    Sleep(channel.event_fd(), std::min(channel.next_deadline(), until));
  }
}

Completion Run(Channel& channel, const Request& request) {
  OXMEM_CHECK(channel.Submit({&request, 1}) == 1);
  Completion completion;
  PollOrWait(channel, {&completion, 1}, Instant::Never());
  OXMEM_CHECK(completion.cookie == request.cookie);
  return completion;
}

absl::Status BlockingRead(Channel& channel, uint64_t offset, std::span<std::byte> buffer) {
  return Transfer(channel, Op::kRead, offset, buffer.data(), buffer.size());
}

absl::Status BlockingWrite(Channel& channel, uint64_t offset, std::span<const std::byte> buffer) {
  // A request has one pointer for both directions; a write only reads through it.
  return Transfer(channel, Op::kWrite, offset, const_cast<std::byte*>(buffer.data()),
                  buffer.size());
}

absl::Status BlockingFlush(Channel& channel) {
  const Request request{.op = Op::kFlush};
  return StatusOfCompletion(channel, request, Run(channel, request));
}

absl::Status BlockingZero(Channel& channel, uint64_t offset, uint64_t length) {
  const Request request{.op = Op::kZero, .offset = offset, .length = length};
  return StatusOfCompletion(channel, request, Run(channel, request));
}

absl::StatusOr<uint64_t> BlockingAtomic(Channel& channel, AtomicOp op, uint64_t offset,
                                        uint64_t length, uint64_t operand, uint64_t compare) {
  const Request request{.op = Op::kAtomic,
                        .atomic_op = op,
                        .offset = offset,
                        .length = length,
                        .operand = operand,
                        .compare = compare};
  const Completion completion = Run(channel, request);
  OXMEM_RETURN_IF_ERROR(StatusOfCompletion(channel, request, completion));
  return completion.old_value;
}

absl::Status StatusOfCompletion(const Channel& channel, const Request& request,
                                const Completion& completion) {
  if (completion.code == Code::kOk) return absl::OkStatus();
  std::string what = absl::StrCat(channel.name(), ": ", OpName(request.op));
  if (request.op != Op::kFlush) {
    absl::StrAppendFormat(&what, " of %s at %#x", FormatSize(request.length), request.offset);
  }
  absl::StrAppend(&what, ": ", CodeName(completion.code));
  if (completion.provider_code != 0) {
    absl::StrAppend(&what, " (code ", completion.provider_code, ")");
  }
  if (const absl::Status health = channel.health(); !health.ok()) {
    absl::StrAppend(&what, "; ", std::string(health.message()));
  }
  return ErrnoStatus(ErrnoOfCode(completion.code), what);
}

}  // namespace oxmem::transport
