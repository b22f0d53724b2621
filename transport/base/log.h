#ifndef TRANSPORT_BASE_LOG_H_
#define TRANSPORT_BASE_LOG_H_

#include <string_view>

#include "absl/status/status.h"
#include "spdlog/spdlog.h"
#include "transport/base/clock.h"

// Logging is spdlog's default logger, to stderr: SPDLOG-style calls `spdlog::info("…", …)` anywhere
// but in protocol machines. Programs call SetUpLogging once, before they start a thread.

namespace oxmem {

// `level`: error, warning, info, debug or trace. Lines carry the time unless the system journal
// is reading stderr, which adds its own.
absl::Status SetUpLogging(std::string_view level);

// Lets one log line through per interval and counts the others: for data paths.
// One thread uses one limiter.
class LogLimiter {
 public:
  explicit LogLimiter(Duration interval = Duration::Seconds(1)) : interval_(interval) {}

  // Whether to log now. `suppressed` gets the number of lines kept back since the last one.
  bool Allow(Instant now, uint64_t* suppressed) {
    if (now < next_) {
      ++suppressed_;
      return false;
    }
    next_ = now + interval_;
    *suppressed = suppressed_;
    suppressed_ = 0;
    return true;
  }

 private:
  Duration interval_;
  Instant next_;
  uint64_t suppressed_ = 0;
};

}  // namespace oxmem

#endif  // TRANSPORT_BASE_LOG_H_
