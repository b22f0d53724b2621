#include <memory>

#include "absl/strings/str_format.h"
#include "apps/common/cli.h"
#include "apps/common/figures_json.h"
#include "apps/common/text.h"
#include "apps/oxmem/bench_options.h"
#include "apps/oxmem/bench_run.h"
#include "apps/oxmem/command.h"
#include "transport/base/log.h"

namespace oxmem::apps {
namespace {

constexpr char kProgram[] = "oxmem bench";

void PrintText(const BenchOptions& options, const BenchRun& run, const BenchResult& result) {
  absl::PrintF("%s: %s %s, size %s, depth %d, %d thread%s, %.3g s\n", run.name(),
               AccessPatternName(options.pattern), LoadOpName(options.op),
               options.op == LoadOp::kAtomic ? "8" : options.size, options.depth, options.threads,
               options.threads == 1 ? "" : "s", result.seconds);
  if (result.operations != 0 && result.seconds > 0) {
    absl::PrintF("%d operations, %s/s, %s\n%s\n", result.operations,
                 FormatCount(static_cast<double>(result.operations) / result.seconds),
                 FormatThroughput(static_cast<double>(result.bytes) / result.seconds),
                 LatencyLine(result.latency));
  }
  if (result.failures != 0) absl::PrintF("%d operations failed\n", result.failures);
  if (options.verify && !result.failure && !result.interrupted) {
    absl::PrintF("verified: every byte as it was written\n");
  }
}

void PrintJson(const BenchOptions& options, const BenchRun& run, const BenchResult& result) {
  Json json;
  json["source"] = options.source;
  json["name"] = run.name();
  json["op"] = LoadOpName(options.op);
  json["pattern"] = AccessPatternName(options.pattern);
  json["size_bytes"] = result.operations == 0 ? 0 : result.bytes / result.operations;
  json["depth"] = options.depth;
  json["threads"] = options.threads;
  json["spin_us"] = options.spin_us;
  json["seconds"] = result.seconds;
  json["operations"] = result.operations;
  json["bytes"] = result.bytes;
  const double seconds = result.seconds > 0 ? result.seconds : 1.0;
  json["operations_per_second"] = static_cast<double>(result.operations) / seconds;
  json["bytes_per_second"] = static_cast<double>(result.bytes) / seconds;
  json["latency"] = LatencyJson(result.latency);
  json["failures"] = result.failures;
  json["verify"] = options.verify;
  json["mismatches"] = result.mismatches;
  json["interrupted"] = result.interrupted;
  if (result.failure) json["first_failure"] = result.failure->what;
  json["channels"] = FiguresJson(run.Figures())["parts"];
  absl::PrintF("%s\n", JsonText(json, 2));
}

int RunBench(const BenchOptions& options) {
  if (const absl::Status logging = SetUpLogging("error"); !logging.ok()) {
    return Fail(kProgram, logging);
  }
  const absl::StatusOr<std::unique_ptr<BenchRun>> run = BenchRun::Create(options);
  if (!run.ok()) return Fail(kProgram, run.status());
  const absl::StatusOr<BenchResult> result = (*run)->Run();
  if (!result.ok()) return Fail(kProgram, result.status());
  if (options.json) {
    PrintJson(options, **run, *result);
  } else {
    PrintText(options, **run, *result);
  }
  if (result->failure) return Fail(kProgram, absl::UnavailableError(result->failure->what));
  return EndOutput(kProgram, kExitDone);
}

}  // namespace

void AddBenchCommand(CLI::App& app, Run& run) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command = app.add_subcommand(
      "bench", "Measure a source: operations, throughput, latency, and that the data is right");
  AddBenchOptions(command, options.get());
  command->callback([options, &run] { run = [options] { return RunBench(*options); }; });
}

}  // namespace oxmem::apps
