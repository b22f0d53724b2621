#ifndef APPS_COMMON_FIGURES_H_
#define APPS_COMMON_FIGURES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/common/facts.h"
#include "transport/base/clock.h"
#include "transport/base/counter.h"
#include "transport/base/histogram.h"

namespace oxmem::apps {

// One number of a part: a sum that only grows, or a level.
struct Figure {
  std::string name;  // "frames_sent"
  bool is_level = false;
  std::string description;
  uint64_t value = 0;
};

// How long something of a part took, each time it happened.
struct LatencyFigure {
  std::string name;  // "service_time"
  std::string description;
  std::shared_ptr<const Histogram> histogram;  // never null
};

// One thing of a process that counts: an endpoint of a node, a channel, a region, a mount, a file.
struct Part {
  std::string kind;  // "node", "channel", "region"; a letter, then letters and underscores
  std::string name;  // unique within its kind
  Facts facts;       // what does not change
  std::vector<Figure> figures;
  std::vector<LatencyFigure> latencies;

  // A visitor for the ForEachCounter functions.
  auto Adder() {
    return
        [this](const char* figure, bool is_level, const char* description, const Counter& counter) {
          figures.push_back({figure, is_level, description, counter.value()});
        };
  }
  // Copies the histogram as it is now.
  void AddLatency(std::string of, std::string description, const Histogram& histogram) {
    latencies.push_back(
        {std::move(of), std::move(description), std::make_shared<const Histogram>(histogram)});
  }
};

// All counters of a process at one moment: what `oxmem stats`, the stats file and the Prometheus
// endpoint show. Plain data.
struct ProcessFigures {
  int pid = 0;
  std::string command;  // "serve"
  std::string name;     // as the user called it; by it `oxmem stats NAME` finds the process
  Duration uptime;
  uint64_t resident_bytes = 0;
  std::vector<Part> parts;
};

// Resident memory of this process, in bytes; 0 if the kernel does not say.
uint64_t ResidentBytes();

}  // namespace oxmem::apps

#endif  // APPS_COMMON_FIGURES_H_
