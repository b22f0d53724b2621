#ifndef APPS_COMMON_SIGNALS_H_
#define APPS_COMMON_SIGNALS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/base/unique_fd.h"

namespace oxmem::apps {

// SIGINT, SIGTERM and SIGHUP as something to wait for. From its creation on the signals do not end
// the process, in no thread that is started later; SIGPIPE is ignored.
class StopSignals {
 public:
  static absl::StatusOr<StopSignals> Block();

  // Readable when one of them has come.
  int fd() const { return fd_.get(); }
  // The signal that came, or 0. Never blocks.
  int Take() const;

 private:
  explicit StopSignals(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace oxmem::apps

#endif  // APPS_COMMON_SIGNALS_H_
