#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/common/cli.h"
#include "apps/common/figures_json.h"
#include "apps/common/text.h"
#include "apps/oxmem/command.h"
#include "apps/source/source_opener.h"
#include "transport/api/blocking.h"
#include "transport/base/clock.h"
#include "transport/base/histogram.h"
#include "transport/base/log.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

using transport::AtomicOp;
using transport::Channel;
using transport::Limits;

constexpr char kProgram[] = "oxmem info";
constexpr uint64_t kProbeBytes = 64;
constexpr int kProbes = 16;
// A source that is slower than this is slow enough to be known after fewer.
constexpr Duration kProbeTime = Duration::Seconds(1);
// Long enough for the longest message there is.
constexpr uint64_t kLongProbeBytes = 32 << 10;

struct InfoOptions {
  std::string source;
  bool json = false;
};

std::vector<std::string> AtomicNames(const Limits& limits) {
  constexpr std::array<const char*, transport::kAtomicOpCount> kNames = {
      "add", "compare-swap", "swap", "and",          "or",
      "xor", "min",          "max",  "min-unsigned", "max-unsigned"};
  std::vector<std::string> names;
  for (int i = 0; i < transport::kAtomicOpCount; ++i) {
    if (limits.atomics.Has(static_cast<AtomicOp>(i)))
      names.push_back(kNames[static_cast<std::size_t>(i)]);
  }
  return names;
}

// What a look at the source has shown.
struct Found {
  absl::Status health;
  Histogram round_trip;  // of small reads
};

absl::Status Read(Channel& channel, uint64_t offset, std::span<std::byte> buffer) {
  OXMEM_ASSIGN_OR_RETURN(const transport::MemoryHandle registered, channel.Register(buffer));
  return transport::BlockingRead(channel, offset, buffer);
}

// A few small reads, one after the other: the channel's own statistics then have the round trip.
absl::Status ReadSmall(Channel& channel, std::span<std::byte> buffer) {
  const Instant until = Now() + kProbeTime;
  for (int i = 0; i < kProbes && Now() < until; ++i) {
    OXMEM_RETURN_IF_ERROR(Read(channel, 0, buffer));
  }
  return absl::OkStatus();
}

// Reads that are long show what the way takes, and those of the end whether it is there.
absl::Status ReadFarAndLong(Channel& channel, uint64_t small) {
  const Limits& limits = channel.limits();
  const uint64_t most = std::min(limits.size_bytes, limits.largest_request_bytes);
  const uint64_t length = std::max(small, std::min(kLongProbeBytes, most / small * small));
  std::vector<std::byte> buffer(length);
  OXMEM_RETURN_IF_ERROR(Read(channel, 0, buffer));
  const uint64_t alignment = limits.alignment_bytes;
  const uint64_t last = (limits.size_bytes - small) / alignment * alignment;
  return Annotate(Read(channel, last, std::span(buffer).first(small)),
                  absl::StrCat("its last bytes (of ", FormatSize(limits.size_bytes), ")"));
}

Found LookAt(Channel& channel) {
  const Limits& limits = channel.limits();
  const uint64_t small = std::min({std::max(kProbeBytes, limits.alignment_bytes),
                                   limits.size_bytes, limits.largest_request_bytes});
  std::vector<std::byte> buffer(small);
  Found found{.health = ReadSmall(channel, buffer), .round_trip = channel.stats().latency};
  if (found.health.ok()) found.health = ReadFarAndLong(channel, small);
  found.health.Update(channel.health());
  return found;
}

std::string Join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) absl::StrAppend(&text, text.empty() ? "" : " ", word);
  return text.empty() ? "none" : text;
}

void PrintText(const InfoOptions& options, const OpenedSource& opened, const Found& found) {
  const Channel& channel = *opened.channel;
  const Limits& limits = channel.limits();
  std::string abilities = limits.read_only ? "read" : "read write";
  if (limits.zero) abilities += " zero";
  if (limits.prefetch) abilities += " prefetch";
  Facts facts = {
      {"source", options.source},
      {"name", channel.name()},
      {"size", absl::StrFormat("%s (%d bytes)", FormatSize(limits.size_bytes), limits.size_bytes)},
      {"operations", abilities},
      {"atomics", Join(AtomicNames(limits))},
      {"largest request", FormatSize(limits.largest_request_bytes)},
      {"alignment", FormatSize(limits.alignment_bytes)},
      {"depth", absl::StrCat(limits.depth, " requests")},
      {"persistent", limits.persistent ? "yes" : "no"},
      {"local memory", limits.local_memory ? "yes: can be mapped" : "no"}};
  const Facts more = opened.facts();
  facts.insert(facts.end(), more.begin(), more.end());
  const Histogram& latency = found.round_trip;
  if (latency.count() != 0) {
    facts.emplace_back(
        "round trip",
        absl::StrFormat("%s median, %s least, of %d small reads",
                        FormatLatency(static_cast<double>(latency.PercentileNs(0.5))),
                        FormatLatency(static_cast<double>(latency.min_ns())), latency.count()));
  }
  const absl::Status& health = found.health;
  facts.emplace_back("health", health.ok() ? "ok" : std::string(health.message()));
  std::fputs(FactsText(facts).c_str(), stdout);
}

void PrintJson(const InfoOptions& options, const OpenedSource& opened, const Found& found) {
  const Limits& limits = opened.channel->limits();
  Json json;
  json["source"] = options.source;
  json["name"] = opened.channel->name();
  json["size_bytes"] = limits.size_bytes;
  json["read_only"] = limits.read_only;
  json["zero"] = limits.zero;
  json["prefetch"] = limits.prefetch;
  json["atomics"] = AtomicNames(limits);
  json["largest_request_bytes"] = limits.largest_request_bytes;
  json["alignment_bytes"] = limits.alignment_bytes;
  json["depth"] = limits.depth;
  json["persistent"] = limits.persistent;
  json["local_memory"] = limits.local_memory.has_value();
  json["needs_registration"] = limits.needs_registration;
  json["transport"] = Json::object();
  for (const auto& [key, value] : opened.facts()) json["transport"][key] = value;
  json["round_trip"] = LatencyJson(found.round_trip);
  const absl::Status& health = found.health;
  json["healthy"] = health.ok();
  json["health"] = health.ok() ? "ok" : std::string(health.message());
  absl::PrintF("%s\n", JsonText(json, 2));
}

int RunInfo(const InfoOptions& options) {
  if (const absl::Status logging = SetUpLogging("warning"); !logging.ok()) {
    return Fail(kProgram, logging);
  }
  absl::StatusOr<OpenedSource> opened = OpenSource(options.source);
  if (!opened.ok()) return Fail(kProgram, opened.status());
  const Found found = LookAt(*opened->channel);
  if (options.json) {
    PrintJson(options, *opened, found);
  } else {
    PrintText(options, *opened, found);
  }
  opened->channel->Close();
  return found.health.ok() ? EndOutput(kProgram, kExitDone) : Fail(kProgram, found.health);
}

}  // namespace

void AddInfoCommand(CLI::App& app, Run& run) {
  auto options = std::make_shared<InfoOptions>();
  CLI::App* command = app.add_subcommand("info", "Show what a source is and what it can do");
  command->add_option("SOURCE", options->source, "Where the memory is (see oxmem --help)")
      ->required();
  command->add_flag("--json", options->json, "Print JSON");
  command->callback([options, &run] { run = [options] { return RunInfo(*options); }; });
}

}  // namespace oxmem::apps
