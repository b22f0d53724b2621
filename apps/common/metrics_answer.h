#ifndef APPS_COMMON_METRICS_ANSWER_H_
#define APPS_COMMON_METRICS_ANSWER_H_

#include <functional>
#include <string>

#include "apps/common/figures.h"

namespace oxmem::apps {

// What an HTTP server that knows GET and HEAD of /metrics says to a request's head, whose bytes may
// be any: status line, headers and body. `figures` is asked only for those.
std::string MetricsAnswer(const std::string& request,
                          const std::function<ProcessFigures()>& figures);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_METRICS_ANSWER_H_
