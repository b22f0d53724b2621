#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "apps/common/cli.h"
#include "apps/common/control_client.h"
#include "apps/common/figures_json.h"
#include "apps/common/figures_text.h"
#include "apps/common/runtime_directory.h"
#include "apps/oxmem/command.h"

namespace oxmem::apps {
namespace {

constexpr char kProgram[] = "oxmem stats";

struct StatsOptions {
  std::string which;
  bool json = false;
};

int PrintStats(const StatsOptions& options) {
  std::vector<Json> processes;
  absl::Status failed;
  for (const ProcessAnswer& one : AskAllProcesses("stats")) {
    if (!one.answer.ok()) {
      failed.Update(one.answer.status());
    } else if (options.which.empty() || IsCalled(*one.answer, options.which)) {
      processes.push_back(*one.answer);
    }
  }
  if (options.json) {
    absl::PrintF("%s\n", JsonText(processes, 2));
  } else {
    for (const Json& process : processes) absl::PrintF("%s", FiguresText(process));
  }
  if (!processes.empty() && !options.which.empty()) return kExitDone;
  if (!failed.ok()) return Fail(kProgram, failed);
  const std::string where = absl::StrJoin(RuntimeDirectories(), ", ");
  if (!options.which.empty()) {
    return Fail(kProgram, absl::NotFoundError(absl::StrCat(
                              "no running process has the number or the name \"", options.which,
                              "\" (looked in ", where, "; oxmem stats alone lists all)")));
  }
  if (processes.empty() && !options.json) {
    absl::PrintF("no oxmem process is running (looked in %s)\n", where);
  }
  return kExitDone;
}

int RunStats(const StatsOptions& options) { return EndOutput(kProgram, PrintStats(options)); }

}  // namespace

void AddStatsCommand(CLI::App& app, Run& run) {
  auto options = std::make_shared<StatsOptions>();
  CLI::App* command =
      app.add_subcommand("stats", "Show the counters of the oxmem processes on this host");
  command->add_option("PROCESS", options->which, "Only this one: its process id or its name");
  command->add_flag("--json", options->json, "Print JSON, with all counters");
  command->callback([options, &run] { run = [options] { return RunStats(*options); }; });
}

}  // namespace oxmem::apps
