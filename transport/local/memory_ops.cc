#include "transport/local/memory_ops.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>

#include "transport/base/check.h"

namespace oxmem::transport {
namespace {

template <typename T, typename Combine>
T ReadModifyWrite(std::atomic_ref<T> cell, Combine combine) {
  T old_value = cell.load(std::memory_order_relaxed);
  while (!cell.compare_exchange_weak(old_value, combine(old_value))) {
  }
  return old_value;
}

template <typename T>
T Apply(AtomicOp op, std::byte* address, T operand, T compare) {
  using Signed = std::make_signed_t<T>;
  // The region is raw memory that other processes use in the same way; there is no object of ours
  // to refer to.
  std::atomic_ref<T> cell(*reinterpret_cast<T*>(address));
  switch (op) {
    case AtomicOp::kAdd:
      return cell.fetch_add(operand);
    case AtomicOp::kCompareSwap:
      cell.compare_exchange_strong(compare, operand);
      return compare;
    case AtomicOp::kSwap:
      return cell.exchange(operand);
    case AtomicOp::kAnd:
      return cell.fetch_and(operand);
    case AtomicOp::kOr:
      return cell.fetch_or(operand);
    case AtomicOp::kXor:
      return cell.fetch_xor(operand);
    case AtomicOp::kMin:
      return ReadModifyWrite(cell, [operand](T value) {
        return static_cast<T>(std::min(static_cast<Signed>(value), static_cast<Signed>(operand)));
      });
    case AtomicOp::kMax:
      return ReadModifyWrite(cell, [operand](T value) {
        return static_cast<T>(std::max(static_cast<Signed>(value), static_cast<Signed>(operand)));
      });
    case AtomicOp::kMinUnsigned:
      return ReadModifyWrite(cell, [operand](T value) { return std::min(value, operand); });
    case AtomicOp::kMaxUnsigned:
      return ReadModifyWrite(cell, [operand](T value) { return std::max(value, operand); });
  }
  OXMEM_CHECK(false);
}

}  // namespace

uint64_t ExecuteAtomic(AtomicOp op, std::byte* address, uint64_t length, uint64_t operand,
                       uint64_t compare) {
  if (length == 4) {
    return Apply<uint32_t>(op, address, static_cast<uint32_t>(operand),
                           static_cast<uint32_t>(compare));
  }
  OXMEM_CHECK(length == 8);
  return Apply<uint64_t>(op, address, operand, compare);
}

namespace {

Completion Carry(const Request& request, const MappedMemory& memory) {
  Completion completion{.cookie = request.cookie, .bytes = request.length};
  std::byte* const at = memory.data() + request.offset;
  switch (request.op) {
    case Op::kRead:
      if (request.length != 0) std::memcpy(request.buffer, at, request.length);
      return completion;
    case Op::kWrite:
      if (request.length != 0) std::memcpy(at, request.buffer, request.length);
      return completion;
    case Op::kFlush:
      __sync_synchronize();  // a full fence, and one that thread sanitizer takes
      completion.bytes = 0;
      return completion;
    case Op::kAtomic:
      completion.old_value =
          ExecuteAtomic(request.atomic_op, at, request.length, request.operand, request.compare);
      return completion;
    case Op::kZero:
      memory.Zero(request.offset, request.length);
      return completion;
    case Op::kPrefetch:
      memory.Prefetch(request.offset, request.length);
      return completion;
  }
  OXMEM_CHECK(false);
}

}  // namespace

Completion Execute(const Request& request, const MappedMemory& memory) {
  const Completion lost{.cookie = request.cookie, .code = Code::kCorrupt};
  if (!memory.Admits(request.offset, request.length)) return lost;
  const Completion completion = Carry(request, memory);
  return memory.Holds(request.offset, request.length) ? completion : lost;
}

}  // namespace oxmem::transport
