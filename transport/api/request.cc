#include "transport/api/request.h"

#include <cerrno>

#include "transport/base/check.h"

namespace oxmem::transport {

const char* CodeName(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kOutOfRange:
      return "out of range";
    case Code::kInvalid:
      return "invalid request";
    case Code::kUnsupported:
      return "not supported";
    case Code::kReadOnly:
      return "region is read-only";
    case Code::kDenied:
      return "denied by the peer";
    case Code::kCorrupt:
      return "data is corrupt at the peer";
    case Code::kTimedOut:
      return "timed out";
    case Code::kPeerLost:
      return "peer lost";
    case Code::kClosed:
      return "channel closed";
    case Code::kFailed:
      return "transport error";
  }
  OXMEM_CHECK(false);
}

int ErrnoOfCode(Code code) {
  switch (code) {
    case Code::kOk:
      return 0;
    case Code::kOutOfRange:
      return ENXIO;
    case Code::kInvalid:
      return EINVAL;
    case Code::kUnsupported:
      return EOPNOTSUPP;
    case Code::kReadOnly:
      return EROFS;
    case Code::kClosed:
      return ESHUTDOWN;
    case Code::kDenied:
    case Code::kCorrupt:
    case Code::kTimedOut:
    case Code::kPeerLost:
    case Code::kFailed:
      return EIO;
  }
  OXMEM_CHECK(false);
}

}  // namespace oxmem::transport
