#ifndef TRANSPORT_API_REQUEST_H_
#define TRANSPORT_API_REQUEST_H_

#include <cstddef>
#include <cstdint>

namespace oxmem::transport {

enum class Op : uint8_t {
  kRead,      // length bytes from the region to buffer
  kWrite,     // length bytes from buffer to the region
  kFlush,     // completes after everything accepted before it has completed and is durable in the
              // sense of the region's backing
  kAtomic,    // atomic_op on the naturally aligned operand of 4 or 8 bytes at offset
  kZero,      // length bytes of the region become zero; buffer unused
  kPrefetch,  // a hint that length bytes are wanted soon; buffer unused
};

enum class AtomicOp : uint8_t {
  kAdd,
  kCompareSwap,  // stores operand where the old value equals compare
  kSwap,
  kAnd,
  kOr,
  kXor,
  kMin,  // signed
  kMax,
  kMinUnsigned,
  kMaxUnsigned,
};
inline constexpr int kAtomicOpCount = 10;

// A set of AtomicOp, as a channel's limits announce it.
class AtomicOps {
 public:
  constexpr AtomicOps() = default;
  constexpr AtomicOps With(AtomicOp op) const { return AtomicOps(bits_ | Bit(op)); }
  constexpr bool Has(AtomicOp op) const { return (bits_ & Bit(op)) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr AtomicOps Intersect(AtomicOps other) const { return AtomicOps(bits_ & other.bits_); }
  static constexpr AtomicOps All() { return AtomicOps((1u << kAtomicOpCount) - 1); }

 private:
  static constexpr uint16_t Bit(AtomicOp op) {
    return static_cast<uint16_t>(1u << static_cast<unsigned>(op));
  }
  constexpr explicit AtomicOps(unsigned bits) : bits_(static_cast<uint16_t>(bits)) {}
  uint16_t bits_ = 0;
};

// One operation on a region. Plain data, copied by Submit; the memory behind `buffer` is the
// caller's and must stay untouched (for a read: unread) from acceptance until the completion has
// been polled.
struct Request {
  Op op = Op::kRead;
  AtomicOp atomic_op = AtomicOp::kAdd;
  uint64_t offset = 0;          // from the start of the region
  uint64_t length = 0;          // bytes; for an atomic the operand's size
  std::byte* buffer = nullptr;  // a write only reads it
  uint64_t operand = 0;
  uint64_t compare = 0;
  uint64_t cookie = 0;  // comes back in the completion; means nothing to the channel
};

// How a request ended. Everything but kOk leaves a read's buffer unspecified.
enum class Code : uint8_t {
  kOk,
  kOutOfRange,   // offset and length do not lie within the region
  kInvalid,      // misaligned or malformed: the caller's mistake
  kUnsupported,  // this channel or this peer has no such operation
  kReadOnly,     // a write to a region that takes none
  kDenied,       // the peer refused it
  kCorrupt,      // the peer says that the data is damaged
  kTimedOut,     // no answer within the request's deadline
  kPeerLost,     // the peer went away and the request may or may not have been applied
  kClosed,       // the channel was closed before the request completed
  kFailed,       // the provider reported an error; see provider_code
};
inline constexpr int kCodeCount = 11;

// "timed out", for logs and messages.
const char* CodeName(Code code);

// The errno an application sees for the code; 0 for kOk. Every front-end uses this one table.
int ErrnoOfCode(Code code);

struct Completion {
  uint64_t cookie = 0;
  uint64_t bytes = 0;      // moved; the whole length when code is kOk
  uint64_t old_value = 0;  // what an atomic found, zero-extended
  Code code = Code::kOk;
  int32_t provider_code =
      0;  // of the transport beneath: a verbs status, an errno; 0 when it has none
};

}  // namespace oxmem::transport

#endif  // TRANSPORT_API_REQUEST_H_
