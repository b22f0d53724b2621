#include "transport/api/validate.h"

#include "transport/base/check.h"
#include "transport/base/size.h"

namespace oxmem::transport {
namespace {

Code ValidateRange(const Request& request, const Limits& limits) {
  if (!RangeFits(request.offset, request.length, limits.size_bytes)) return Code::kOutOfRange;
  if (request.offset % limits.alignment_bytes != 0 ||
      request.length % limits.alignment_bytes != 0) {
    return Code::kInvalid;
  }
  return Code::kOk;
}

Code ValidateTransfer(const Request& request, const Limits& limits) {
  if (request.buffer == nullptr && request.length != 0) return Code::kInvalid;
  if (const Code code = ValidateRange(request, limits); code != Code::kOk) return code;
  return request.length > limits.largest_request_bytes ? Code::kInvalid : Code::kOk;
}

Code ValidateAtomic(const Request& request, const Limits& limits) {
  if (!limits.atomics.Has(request.atomic_op)) return Code::kUnsupported;
  if (request.length != 4 && request.length != 8) return Code::kInvalid;
  if (request.offset % request.length != 0) return Code::kInvalid;
  if (!RangeFits(request.offset, request.length, limits.size_bytes)) return Code::kOutOfRange;
  return limits.read_only ? Code::kReadOnly : Code::kOk;
}

}  // namespace

Code Validate(const Request& request, const Limits& limits) {
  switch (request.op) {
    case Op::kRead:
      return ValidateTransfer(request, limits);
    case Op::kWrite:
      return limits.read_only ? Code::kReadOnly : ValidateTransfer(request, limits);
    case Op::kFlush:
      return Code::kOk;
    case Op::kAtomic:
      return ValidateAtomic(request, limits);
    case Op::kZero:
      if (!limits.zero) return Code::kUnsupported;
      return limits.read_only ? Code::kReadOnly : ValidateRange(request, limits);
    case Op::kPrefetch:
      return limits.prefetch ? ValidateRange(request, limits) : Code::kUnsupported;
  }
  OXMEM_CHECK(false);
}

}  // namespace oxmem::transport
