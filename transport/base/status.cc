#include "transport/base/status.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "transport/base/size.h"

namespace oxmem {
namespace {

constexpr char kErrnoPayload[] = "oxmem/errno";

int ErrnoOfCode(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kCancelled:
      return ECANCELED;
    case absl::StatusCode::kInvalidArgument:
      return EINVAL;
    case absl::StatusCode::kDeadlineExceeded:
      return ETIMEDOUT;
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kAlreadyExists:
      return EEXIST;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return EACCES;
    case absl::StatusCode::kResourceExhausted:
      return ENOMEM;
    case absl::StatusCode::kFailedPrecondition:
      return EBUSY;
    case absl::StatusCode::kAborted:
      return EAGAIN;
    case absl::StatusCode::kOutOfRange:
      return ERANGE;
    case absl::StatusCode::kUnimplemented:
      return ENOTSUP;
    case absl::StatusCode::kUnavailable:
      return EHOSTUNREACH;
    default:
      return EIO;
  }
}

// What the error's own words leave out: the limit that the caller can change.
std::string Remedy(int error) {
  rlimit limit{};
  if (error != EFBIG || getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return "";
  }
  return absl::StrCat(" (ulimit -f is ", FormatSize(limit.rlim_cur),
                      " here, for memory too; raise it)");
}

}  // namespace

absl::Status ErrnoStatus(int error, std::string message) {
  absl::Status status(absl::ErrnoToStatusCode(error),
                      absl::StrCat(message, ": ", std::strerror(error), Remedy(error)));
  status.SetPayload(kErrnoPayload, absl::Cord(absl::StrCat(error)));
  return status;
}

int ErrnoOf(const absl::Status& status) {
  if (auto payload = status.GetPayload(kErrnoPayload)) {
    int error = 0;
    if (absl::SimpleAtoi(std::string(*payload), &error)) return error;
  }
  return ErrnoOfCode(status.code());
}

absl::Status Annotate(const absl::Status& status, const std::string& prefix) {
  if (status.ok()) return status;
  absl::Status result(status.code(), absl::StrCat(prefix, ": ", status.message()));
  status.ForEachPayload([&result](absl::string_view url, const absl::Cord& payload) {
    result.SetPayload(url, payload);
  });
  return result;
}

}  // namespace oxmem
