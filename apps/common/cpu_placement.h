#ifndef APPS_COMMON_CPU_PLACEMENT_H_
#define APPS_COMMON_CPU_PLACEMENT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace oxmem::apps {

// "0", "0,2", "1-3,5": numbers of CPUs, in the order given.
absl::StatusOr<std::vector<int>> ParseCpuList(const std::string& text);

// Fails if a thread of this process could not be kept on one of them.
absl::Status CheckCpus(const std::vector<int>& cpus);

// Keeps the calling thread on one CPU.
absl::Status PinThread(int cpu);

}  // namespace oxmem::apps

#endif  // APPS_COMMON_CPU_PLACEMENT_H_
