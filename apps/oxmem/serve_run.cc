#include "apps/oxmem/serve_run.h"

#include <sys/epoll.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/common/control_server.h"
#include "apps/common/event_loop.h"
#include "apps/common/figures.h"
#include "apps/common/metrics_server.h"
#include "apps/common/service_manager.h"
#include "apps/common/signals.h"
#include "apps/common/stats_file.h"
#include "apps/serve/region_store.h"
#include "transport/base/log.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr char kNodeKind[] = "node";
constexpr Duration kLookInterval = Duration::Seconds(1);

// Pages are taken when they are first touched, so more than there is can be offered, and goes well
// until somebody uses it.
void WarnAboutMemory(const std::vector<RegionSpec>& regions) {
  struct sysinfo host {};
  if (sysinfo(&host) != 0) return;
  const uint64_t total = uint64_t{host.totalram} * host.mem_unit;
  uint64_t offered = 0;
  for (const RegionSpec& region : regions) {
    if (region.backing.kind == node::BackingKind::kFile) continue;
    offered = CheckedAdd(offered, region.backing.size_bytes).value_or(UINT64_MAX);
  }
  if (offered <= total) return;
  spdlog::warn(
      "the regions have {}, this host {}: when more than that is touched, the kernel ends a "
      "process (backing=file:PATH keeps a region on storage)",
      FormatSizeForPeople(offered), FormatSizeForPeople(total));
}

// The running node: its endpoints on their threads, and what the main thread does beside them.
class Service {
 public:
  explicit Service(const ServeOptions& options) : options_(options), started_(Now()) {}

  absl::Status Open();
  absl::Status Run();

 private:
  absl::Status WatchSignals();
  absl::Status OfferFigures();
  absl::Status StartEndpoints();
  void WriteStatsFile(StatsFile& file);
  void LookAtRegions();
  absl::Status WatchAddresses();
  ProcessFigures Figures() const;

  const ServeOptions& options_;
  const Instant started_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<StopSignals> signals_;
  std::unique_ptr<RegionStore> store_;
  std::set<std::string> damaged_;  // regions that were said to be
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<MetricsServer> metrics_;
  std::unique_ptr<StatsFile> stats_file_;
  LogLimiter stats_log_{Duration::Seconds(60)};
};

absl::Status Service::Open() {
  OXMEM_ASSIGN_OR_RETURN(loop_, EventLoop::Create());
  OXMEM_RETURN_IF_ERROR(WatchSignals());
  OXMEM_ASSIGN_OR_RETURN(RegionStore store, RegionStore::Create(options_.regions));
  store_ = std::make_unique<RegionStore>(std::move(store));
  WarnAboutMemory(options_.regions);
  for (std::size_t i = 0; i < options_.listens.size(); ++i) {
    EndpointOptions endpoint = options_.endpoint;
    if (!options_.cpus.empty()) endpoint.cpu = options_.cpus[i % options_.cpus.size()];
    OXMEM_ASSIGN_OR_RETURN(std::unique_ptr<Endpoint> opened,
                           Endpoint::Open(options_.listens[i], *store_, endpoint));
    endpoints_.push_back(std::move(opened));
  }
  return OfferFigures();
}

absl::Status Service::WatchSignals() {
  OXMEM_ASSIGN_OR_RETURN(StopSignals signals, StopSignals::Block());
  signals_ = std::make_unique<StopSignals>(std::move(signals));
  return loop_->Watch(signals_->fd(), EPOLLIN, [this](uint32_t) {
    if (signals_->Take() != 0) loop_->Stop();
  });
}

absl::Status Service::OfferFigures() {
  std::map<std::string, ControlServer::Command> commands;
  commands["stats"] = [this](const Json&) -> absl::StatusOr<Json> {
    return FiguresJson(Figures());
  };
  absl::StatusOr<std::unique_ptr<ControlServer>> control =
      ControlServer::Start(loop_.get(), std::move(commands));
  if (control.ok()) {
    control_ = *std::move(control);
  } else {
    // Serving goes on without: a container may have no place for the socket.
    spdlog::warn("oxmem stats will not see this node: {}", std::string(control.status().message()));
  }
  if (!options_.prometheus.empty()) {
    OXMEM_ASSIGN_OR_RETURN(metrics_, MetricsServer::Start(loop_.get(), options_.prometheus,
                                                          [this] { return Figures(); }));
  }
  if (options_.stats_file.empty()) return absl::OkStatus();
  stats_file_ = std::make_unique<StatsFile>(options_.stats_file, options_.stat_interval.seconds());
  OXMEM_RETURN_IF_ERROR(stats_file_->Write(Figures(), kNodeKind));
  loop_->Every(options_.stat_interval, [this] { WriteStatsFile(*stats_file_); });
  return absl::OkStatus();
}

void Service::WriteStatsFile(StatsFile& file) {
  const absl::Status written = file.Write(Figures(), kNodeKind);
  uint64_t suppressed = 0;
  if (!written.ok() && stats_log_.Allow(Now(), &suppressed)) {
    spdlog::warn("{}{}", std::string(written.message()),
                 suppressed == 0 ? "" : absl::StrCat(" (", suppressed, " times more)"));
  }
}

// A file that is cut short while it is served is nothing a node can mend: it is said once.
void Service::LookAtRegions() {
  for (const RegionStore::Region& region : store_->regions()) {
    MemoryGuard* const guard = region.backing.guard();
    if (guard == nullptr) continue;
    guard->Look();
    const absl::Status health = guard->health();
    if (health.ok() || !damaged_.insert(region.spec.name).second) continue;
    spdlog::error(
        "region \"{}\": {} was changed under the running node, {}: requests for what is lost are "
        "denied (bring the file back and start the node again)",
        region.spec.name, region.spec.backing.path, std::string(health.message()));
  }
}

absl::Status Service::WatchAddresses() {
  for (const auto& endpoint : endpoints_) {
    if (endpoint->address_fd() < 0) continue;
    OXMEM_RETURN_IF_ERROR(loop_->Watch(endpoint->address_fd(), EPOLLIN,
                                       [e = endpoint.get()](uint32_t) { e->WatchAddress(); }));
  }
  loop_->Every(kLookInterval, [this] {
    for (const auto& endpoint : endpoints_) endpoint->WatchAddress();
  });
  return absl::OkStatus();
}

absl::Status Service::StartEndpoints() {
  const std::string what = store_->Describe();
  for (const auto& endpoint : endpoints_) {
    OXMEM_RETURN_IF_ERROR(endpoint->Start());
    absl::PrintF("listening on %s: %s\n", endpoint->name(), what);
  }
  std::fflush(stdout);
  NotifyServiceManager(absl::StrCat("READY=1\nSTATUS=serving ", what));
  return absl::OkStatus();
}

absl::Status Service::Run() {
  OXMEM_RETURN_IF_ERROR(StartEndpoints());
  OXMEM_RETURN_IF_ERROR(WatchAddresses());
  loop_->Every(kLookInterval, [this] { LookAtRegions(); });
  const absl::Status ran = loop_->Run();
  NotifyServiceManager("STOPPING=1");
  for (const auto& endpoint : endpoints_) endpoint->RequestStop();
  for (const auto& endpoint : endpoints_) endpoint->Join();
  if (stats_file_ != nullptr) WriteStatsFile(*stats_file_);
  return ran;
}

ProcessFigures Service::Figures() const {
  ProcessFigures process;
  process.pid = getpid();
  process.command = "serve";
  process.name = options_.name;
  process.uptime = Now() - started_;
  process.resident_bytes = ResidentBytes();
  for (const auto& endpoint : endpoints_) process.parts.push_back(endpoint->Figures());
  for (Part& region : store_->Parts()) process.parts.push_back(std::move(region));
  return process;
}

}  // namespace

absl::Status Serve(const ServeOptions& options) {
  Service service(options);
  OXMEM_RETURN_IF_ERROR(service.Open());
  return service.Run();
}

}  // namespace oxmem::apps
