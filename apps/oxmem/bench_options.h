#ifndef APPS_OXMEM_BENCH_OPTIONS_H_
#define APPS_OXMEM_BENCH_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "apps/load/load.h"
#include "transport/api/limits.h"

namespace oxmem::apps {

// `oxmem bench` as the user wrote it.
struct BenchOptions {
  std::string source;
  LoadOp op = LoadOp::kRead;
  AccessPattern pattern = AccessPattern::kRandom;
  std::string size = "4K";
  std::string offset = "0";
  std::string range;  // empty: all there is, or a part that a verifying run can remember
  uint32_t depth = 32;
  uint32_t threads = 1;
  double seconds = 5.0;
  uint64_t count = 0;
  std::optional<double> read_percent;  // of a mixed load
  uint64_t seed = 1;
  int64_t spin_us = 50;
  std::string cpus;
  bool verify = false;
  bool keep_going = false;
  bool json = false;
};

void AddBenchOptions(CLI::App* command, BenchOptions* options);

// What each of the threads does to a region with these limits: random loads share the range,
// sequential ones begin in different places, verifying ones have a part of it each.
absl::StatusOr<std::vector<LoadOptions>> LoadOfThreads(const BenchOptions& options,
                                                       const transport::Limits& limits);

}  // namespace oxmem::apps

#endif  // APPS_OXMEM_BENCH_OPTIONS_H_
