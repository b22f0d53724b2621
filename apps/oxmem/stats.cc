#include <algorithm>
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
#include "apps/common/runtime_directory.h"
#include "apps/common/text.h"
#include "apps/oxmem/command.h"
#include "transport/base/size.h"

namespace oxmem::apps {
namespace {

constexpr char kProgram[] = "oxmem stats";

struct StatsOptions {
  std::string which;
  bool json = false;
};

std::string TextOf(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return "";
  return Printable(found->is_string() ? found->get<std::string>() : found->dump());
}

double NumberOf(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number() ? found->get<double>() : 0.0;
}

std::string LatencyText(const Json& latency) {
  std::string text;
  for (const char* key : {"min", "mean", "p50", "p99", "p999", "max"}) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", key, " ",
                    FormatLatency(NumberOf(latency, absl::StrCat(key, "_us").c_str()) * 1000.0));
  }
  return text;
}

void PrintPart(const Json& part) {
  absl::PrintF("  %s %s\n", TextOf(part, "kind"), TextOf(part, "name"));
  Facts rows;
  for (const auto& [key, value] : part.items()) {
    if (key == "facts" && value.is_object()) {
      for (const auto& [fact, text] : value.items())
        rows.emplace_back(fact, TextOf(value, fact.c_str()));
    } else if (key == "counters" && value.is_object()) {
      // What never happened is left out; --json has it.
      for (const auto& [counter, count] : value.items()) {
        if (count != 0) rows.emplace_back(counter, count.dump());
      }
    } else if (value.is_object() && NumberOf(value, "count") > 0) {
      rows.emplace_back(key, LatencyText(value));
    }
  }
  std::string text = FactsText(rows);
  std::size_t begin = 0;
  for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    absl::PrintF("    %s\n", text.substr(begin, end - begin));
    begin = end + 1;
  }
}

void PrintProcess(const Json& process) {
  absl::PrintF("%s \"%s\", process %s, up %.0f s, %s resident\n", TextOf(process, "command"),
               TextOf(process, "name"), TextOf(process, "pid"), NumberOf(process, "uptime_seconds"),
               FormatSizeForPeople(static_cast<uint64_t>(NumberOf(process, "resident_bytes"))));
  if (const auto parts = process.find("parts"); parts != process.end()) {
    for (const Json& part : *parts) PrintPart(part);
  }
}

bool IsWanted(const Json& process, const std::string& which) {
  return which.empty() || TextOf(process, "pid") == which || TextOf(process, "name") == which;
}

int RunStats(const StatsOptions& options) {
  std::vector<Json> processes;
  absl::Status failed;
  for (const ProcessAnswer& one : AskAllProcesses("stats")) {
    if (!one.answer.ok()) {
      failed.Update(one.answer.status());
    } else if (IsWanted(*one.answer, options.which)) {
      processes.push_back(*one.answer);
    }
  }
  if (options.json) {
    absl::PrintF("%s\n", Json(processes).dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    for (const Json& process : processes) PrintProcess(process);
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
