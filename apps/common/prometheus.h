#ifndef APPS_COMMON_PROMETHEUS_H_
#define APPS_COMMON_PROMETHEUS_H_

#include <string>

#include "apps/common/figures.h"

namespace oxmem::apps {

// The text exposition format, version 0.0.4: every sum as oxmem_KIND_FIGURE_total, every level as
// oxmem_KIND_FIGURE, every latency as the histogram oxmem_KIND_LATENCY_seconds, each labelled with
// the process's and the part's name.
std::string PrometheusText(const ProcessFigures& process);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_PROMETHEUS_H_
