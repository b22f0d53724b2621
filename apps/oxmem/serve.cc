#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "apps/common/cli.h"
#include "apps/common/cpu_placement.h"
#include "apps/oxmem/command.h"
#include "apps/oxmem/number_option.h"
#include "apps/oxmem/serve_run.h"
#include "transport/base/log.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr char kProgram[] = "oxmem serve";

struct Words {
  std::vector<std::string> regions;
  std::vector<std::string> listens;
  std::vector<std::string> allowed;
  std::string name;
  uint32_t max_connections = 64;
  std::string stats_file;
  double stat_interval = 2.0;
  std::string prometheus;
  std::string log_level = "info";
  int64_t spin_us = 50;
  std::string cpus;
};

absl::StatusOr<ServeOptions> Interpret(const Words& words) {
  ServeOptions options;
  if (words.regions.empty()) {
    return absl::InvalidArgumentError("there is nothing to serve: add --region data=1G");
  }
  if (words.listens.empty()) {
    return absl::InvalidArgumentError(
        "there is nowhere to listen: add --listen tloe://IFACE, tloe+udp://HOST:PORT or "
        "shm://NAME");
  }
  for (const std::string& text : words.regions) {
    OXMEM_ASSIGN_OR_RETURN(RegionSpec spec, ParseRegionSpec(text));
    options.regions.push_back(std::move(spec));
  }
  for (const std::string& text : words.listens) {
    OXMEM_ASSIGN_OR_RETURN(transport::Source listen, transport::ParseSource(text));
    options.listens.push_back(std::move(listen));
  }
  for (const std::string& text : words.allowed) {
    const absl::StatusOr<link::MacAddress> mac = link::ParseMacAddress(text);
    if (!mac.ok()) return Annotate(mac.status(), "--allow");
    options.endpoint.allowed.push_back(*mac);
  }
  if (!words.cpus.empty()) {
    OXMEM_ASSIGN_OR_RETURN(options.cpus, ParseCpuList(words.cpus));
    OXMEM_RETURN_IF_ERROR(CheckCpus(options.cpus));
  }
  options.name = words.name.empty() ? options.regions.front().name : words.name;
  options.endpoint.max_connections = words.max_connections;
  options.endpoint.spin = Duration::Microseconds(words.spin_us);
  options.stats_file = words.stats_file;
  options.stat_interval = Duration::Nanoseconds(static_cast<int64_t>(words.stat_interval * 1e9));
  options.prometheus = words.prometheus;
  return options;
}

int RunServe(const Words& words) {
  absl::Status status = SetUpLogging(words.log_level);
  if (!status.ok()) return Fail(kProgram, status);
  const absl::StatusOr<ServeOptions> options = Interpret(words);
  if (!options.ok()) return Fail(kProgram, options.status());
  status = Serve(*options);
  return status.ok() ? kExitDone : Fail(kProgram, status);
}

void AddOptions(CLI::App* command, Words* words) {
  command
      ->add_option(
          "-r,--region", words->regions,
          "Memory to serve, repeatable: NAME=SIZE and, behind commas, base=ADDRESS (default "
          "behind the others), backing=memfd (default), anonymous, huge or file:PATH, and "
          "ro for read-only")
      ->type_name("NAME=SIZE[,KEY=VALUE]...")
      ->allow_extra_args(false);
  command
      ->add_option("-l,--listen", words->listens,
                   "Where to serve it, repeatable: tloe://IFACE, tloe://IFACE/MAC for an address "
                   "of its own, tloe+udp://HOST:PORT; for processes of this host shm://NAME, "
                   "unix:/PATH.sock")
      ->type_name("URI")
      ->allow_extra_args(false);
  command
      ->add_option("-a,--allow", words->allowed,
                   "Serve only this peer, repeatable (default: everybody on the network)")
      ->type_name("MAC")
      ->allow_extra_args(false);
  command
      ->add_option("--name", words->name,
                   "What oxmem stats calls this node (default: its first region)")
      ->type_name("NAME")
      ->check(NotEmpty());
  command
      ->add_option("--max-connections", words->max_connections,
                   "Connections of one endpoint at a time (default 64)")
      ->type_name("N")
      ->check(WholeNumber(1, 65536));
  CLI::Option* stats_file =
      command
          ->add_option("--stats-file", words->stats_file,
                       "Write the counters to this file as JSON, again and again")
          ->type_name("PATH")
          ->check(NotEmpty());
  command
      ->add_option("--stat-interval", words->stat_interval,
                   "Seconds between two writes (default 2)")
      ->type_name("SEC")
      ->needs(stats_file)
      ->check(DecimalNumber(0.05, 86400));
  command
      ->add_option("--prometheus", words->prometheus,
                   "Answer Prometheus at http://HOST:PORT/metrics")
      ->type_name("HOST:PORT")
      ->check(NotEmpty());
  command
      ->add_option("--spin", words->spin_us,
                   "Microseconds to poll for frames before sleeping (default 50)")
      ->type_name("US")
      ->check(WholeNumber(0, 1000000000));
  command
      ->add_option("--cpu", words->cpus,
                   "CPUs to keep the endpoints' threads on, in turn, like 0,2-3")
      ->type_name("LIST")
      ->check(NotEmpty());
  command
      ->add_option("--log-level", words->log_level,
                   "error, warning, info (default), debug or trace")
      ->type_name("LEVEL");
}

}  // namespace

void AddServeCommand(CLI::App& app, Run& run) {
  auto words = std::make_shared<Words>();
  CLI::App* command = app.add_subcommand(
      "serve", "Serve memory of this host to others: a memory node, until it is told to stop");
  AddOptions(command, words.get());
  command->callback([words, &run] { run = [words] { return RunServe(*words); }; });
}

}  // namespace oxmem::apps
