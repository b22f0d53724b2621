// What raw AF_PACKET can do between two processes over a veth pair: the ceilings that channels are
// judged against.

#include <cstdio>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "bench/path/raw/raw_run.h"
#include "nlohmann/json.hpp"
#include "tests/support/net_namespace.h"
#include "transport/base/status.h"

namespace oxmem::bench {
namespace {

enum class Mode : uint8_t { kPingPong, kRate, kOneWay };

struct Settings {
  Mode mode = Mode::kPingPong;
  std::string wait = "block";
  std::string send = "batch";
  std::string receive = "batch";
  std::string place = "across";
  std::size_t mtu = 1500;
  double seconds = 1;
  bool json = false;
  RawPlan plan;
};

absl::Status Complete(Settings& settings) {
  const std::map<std::string, WaitWay> waits = {
      {"block", WaitWay::kBlock}, {"poll", WaitWay::kPoll}, {"spin", WaitWay::kSpin}};
  settings.plan.wait = waits.at(settings.wait);
  settings.plan.send = *ParseSendWay(settings.send);
  settings.plan.receive = *ParseReceiveWay(settings.receive);
  settings.plan.far.cpu = settings.place == "same" ? settings.plan.near.cpu : 1;
  settings.plan.time = Duration::Nanoseconds(static_cast<int64_t>(settings.seconds * 1e9));
  if (settings.place == "same" && settings.wait == "spin") {
    return absl::InvalidArgumentError("two ends that spin cannot share a processor");
  }
  return absl::OkStatus();
}

nlohmann::json ToJson(const Settings& settings, const RawResult& result) {
  nlohmann::json json = {
      {"mode", settings.mode == Mode::kPingPong ? "pingpong"
               : settings.mode == Mode::kRate   ? "rate"
                                                : "oneway"},
      {"wait", settings.wait},
      {"place", settings.place},
      {"request_bytes", settings.plan.request_bytes},
      {"frames", result.frames},
      {"seconds", result.seconds},
      {"frames_per_second", static_cast<double>(result.frames) / result.seconds},
      {"bytes_per_second", static_cast<double>(result.bytes) / result.seconds},
  };
  if (settings.mode != Mode::kPingPong) {
    json["send"] = settings.send;
    json["receive"] = settings.receive;
    json["depth"] = settings.plan.depth;
  }
  if (settings.mode != Mode::kOneWay) json["response_bytes"] = settings.plan.response_bytes;
  if (settings.mode == Mode::kOneWay) json["sent"] = result.sent;
  if (settings.mode == Mode::kPingPong) {
    json["latency_ns"] = {{"mean", result.latency.mean_ns()},
                          {"p50", result.latency.PercentileNs(0.5)},
                          {"p99", result.latency.PercentileNs(0.99)},
                          {"max", result.latency.max_ns()}};
  }
  return json;
}

void Print(const Settings& settings, const RawResult& result) {
  const double rate = static_cast<double>(result.frames) / result.seconds;
  if (settings.mode == Mode::kPingPong) {
    absl::PrintF("%.2f us mean, %.2f us median, %.2f us 99%% (%d round trips)\n",
                 result.latency.mean_ns() / 1e3, result.latency.PercentileNs(0.5) / 1e3,
                 result.latency.PercentileNs(0.99) / 1e3, result.frames);
    return;
  }
  absl::PrintF("%.0f frames/s, %.1f MB/s", rate,
               static_cast<double>(result.bytes) / result.seconds / 1e6);
  if (settings.mode == Mode::kOneWay && settings.plan.depth == 0) {
    absl::PrintF(", %.1f%% lost", 100.0 - 100.0 * static_cast<double>(result.frames) /
                                              static_cast<double>(result.sent));
  }
  absl::PrintF("\n");
}

absl::StatusOr<RawResult> Run(const Settings& settings, const RawPlan& plan) {
  switch (settings.mode) {
    case Mode::kPingPong:
      return RunPingPong(plan);
    case Mode::kRate:
      return RunRate(plan);
    case Mode::kOneWay:
      return RunOneWay(plan);
  }
  return absl::InternalError("no such mode");
}

absl::Status Main(Settings& settings) {
  OXMEM_RETURN_IF_ERROR(Complete(settings));
  RawPlan& plan = settings.plan;
  std::optional<test::VethPair> veth;
  if (plan.near.interface.empty()) {
    OXMEM_ASSIGN_OR_RETURN(test::VethPair made, test::VethPair::Create(settings.mtu));
    veth.emplace(std::move(made));
    plan.near.namespace_path = veth->left().space.path();
    plan.near.interface = veth->left().interface;
    plan.far.namespace_path = veth->right().space.path();
    plan.far.interface = veth->right().interface;
  }
  OXMEM_ASSIGN_OR_RETURN(const RawResult result, Run(settings, plan));
  if (settings.json) {
    std::cout << ToJson(settings, result).dump() << "\n";
  } else {
    Print(settings, result);
  }
  return absl::OkStatus();
}

void AddOptions(CLI::App& app, Settings& settings) {
  RawPlan& plan = settings.plan;
  app.add_option("mode", settings.mode, "pingpong, rate or oneway")
      ->required()
      ->transform(CLI::Transformer(std::map<std::string, Mode>{
          {"pingpong", Mode::kPingPong}, {"rate", Mode::kRate}, {"oneway", Mode::kOneWay}}));
  app.add_option("--wait", settings.wait, "How an end waits: block, poll or spin")
      ->check(CLI::IsMember({"block", "poll", "spin"}))
      ->capture_default_str();
  app.add_option("--place", settings.place, "Processors of the ends: same or across")
      ->check(CLI::IsMember({"same", "across"}))
      ->capture_default_str();
  app.add_option("--send", settings.send, "How frames leave, in rate and oneway")
      ->check(CLI::IsMember({"batch", "batch-bypass", "ring", "ring-bypass"}))
      ->capture_default_str();
  app.add_option("--receive", settings.receive, "How frames come in, in rate and oneway")
      ->check(CLI::IsMember({"batch", "ring-v2", "ring-v3"}))
      ->capture_default_str();
  app.add_option("--request", plan.request_bytes, "Frame length from near to far, from 60");
  app.add_option("--response", plan.response_bytes, "Frame length from far to near, from 60");
  app.add_option("--depth", plan.depth,
                 "Frames under way; 0 with oneway: as many as can be sent, however many are lost");
  app.add_option("--ring-bytes", plan.ring_bytes, "Memory of a ring");
  app.add_flag("!--no-touch", plan.touch, "Leave the contents of received frames alone");
  app.add_option("--mtu", settings.mtu, "Of the veth pair made for this run");
  app.add_option("--seconds", settings.seconds, "Length of the run after a warm-up");
  app.add_flag("--json", settings.json, "One JSON object instead of text");
  auto* near = app.add_option("--near-interface", plan.near.interface,
                              "An existing interface to use instead of a pair made for this run");
  auto* far = app.add_option("--far-interface", plan.far.interface, "The one it is joined to");
  near->needs(far);
  far->needs(near);
  app.add_option("--near-netns", plan.near.namespace_path, "Path of its network namespace");
  app.add_option("--far-netns", plan.far.namespace_path, "Path of its network namespace");
  app.add_option("--near-cpu", plan.near.cpu, "Processor of the near end");
}

}  // namespace
}  // namespace oxmem::bench

int main(int argc, char** argv) {
  oxmem::bench::Settings settings;
  CLI::App app("Raw AF_PACKET ceilings over a veth pair");
  oxmem::bench::AddOptions(app, settings);
  CLI11_PARSE(app, argc, argv);
  if (const absl::Status status = oxmem::bench::Main(settings); !status.ok()) {
    std::cerr << "raw_link: " << status.message() << "\n";
    return 1;
  }
  return 0;
}
