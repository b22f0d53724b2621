#include "apps/common/cpu_placement.h"

#include <sched.h>

#include <cerrno>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

bool ParseCpu(absl::string_view text, int* cpu) {
  return absl::SimpleAtoi(text, cpu) && *cpu >= 0 && *cpu < CPU_SETSIZE;
}

}  // namespace

absl::StatusOr<std::vector<int>> ParseCpuList(const std::string& text) {
  const auto error = [&] {
    return absl::InvalidArgumentError(
        absl::StrCat("--cpu: \"", text, "\" is no list of CPUs (like 0 or 0,2 or 1-3)"));
  };
  std::vector<int> cpus;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, '-');
    int first = 0;
    int last = 0;
    if (ends.size() > 2 || !ParseCpu(ends.front(), &first) || !ParseCpu(ends.back(), &last) ||
        last < first) {
      return error();
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

absl::Status CheckCpus(const std::vector<int>& cpus) {
  absl::Status status;
  std::thread([&] {
    for (const int cpu : cpus) status.Update(PinThread(cpu));
  }).join();
  return status;
}

absl::Status PinThread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  if (sched_setaffinity(0, sizeof set, &set) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, absl::StrCat("cannot use CPU ", cpu, " (is it there and allowed?)"));
}

}  // namespace oxmem::apps
