#include "apps/mount/mount_run.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "apps/common/control_server.h"
#include "apps/common/event_loop.h"
#include "apps/common/figures.h"
#include "apps/common/metrics_server.h"
#include "apps/common/service_manager.h"
#include "apps/common/signals.h"
#include "apps/common/stats_file.h"
#include "apps/mount/interest.h"
#include "apps/mount/keeping.h"
#include "apps/mount/mount_figures.h"
#include "apps/mount/mount_succession.h"
#include "apps/mount/own_places.h"
#include "apps/mount/remount.h"
#include "apps/source/source_opener.h"
#include "fs/fuse/fuse_mount.h"
#include "fs/fuse/mount_point.h"
#include "fs/volume/mapped_volume.h"
#include "fs/volume/remote_volume.h"
#include "fs/volume/statistics_volume.h"
#include "transport/api/blocking.h"
#include "transport/base/log.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

// Of memory of this process a channel costs nothing, and several threads copy faster; only one of
// them reads requests (fs/fuse/lead.h). Elsewhere every thread is one more connection to a node.
constexpr std::size_t kMostUnasked = 4;

// For a source that answers no more when this process has to go on with what it wanted to leave.
constexpr Duration kGoOnPatience = Duration::Seconds(30);

std::size_t ReactorCount(const MountSpec& spec) {
  if (spec.threads.has_value()) return *spec.threads;
  for (const transport::Source& source : spec.sources) {
    if (source.scheme != "mem") return 1;
  }
  return std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kMostUnasked);
}

// A mount, and what the main thread does beside its reactors.
class MountService {
 public:
  MountService(MountSpec spec, ServePlan plan)
      : spec_(std::move(spec)), plan_(std::move(plan)), started_(Now()) {}

  absl::Status Open();
  std::string Describe() const;
  void LogNotUsed() const;
  absl::Status Run();
  // Instead of Run: nobody wants the mount. One that was there before stays.
  bool GiveUp();

 private:
  // With what was kept of memory, if this goes on with a mount.
  absl::Status OpenVolumes(std::vector<std::vector<std::unique_ptr<fs::Volume>>>& volumes,
                           std::optional<KeptMemory> kept);
  absl::StatusOr<std::unique_ptr<fs::Volume>> OpenVolume(SourceOpener& opener, std::size_t file);
  void EndOrphan();
  absl::Status MountOrGoOn();
  absl::Status Begin();
  absl::Status Keep();
  Keeper::Things Things() const;
  absl::Status WatchEnds();
  absl::Status WatchMount();
  // After Leave: the successor did not get the mount.
  absl::Status GoOn(fs::LiveMount life);
  KeptMemory OwnMemory() const;
  absl::Status LeaveToSuccessor();
  void OnSuccessor();
  absl::Status OpenFigures();
  absl::Status OfferFigures();
  absl::StatusOr<Json> Remount(const Json& request);
  absl::Status Tolerated(const absl::Status& status) const;
  ProcessFigures Figures() const;

  MountSpec spec_;
  ServePlan plan_;
  const Instant started_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<StopSignals> signals_;
  std::vector<std::unique_ptr<SourceOpener>> openers_;
  std::unique_ptr<fs::FuseMount> mount_;
  std::vector<std::string> not_used_;    // of each file, by composed sources
  std::vector<FileVolumes> statistics_;  // of each file; they live as long as the mount
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<MetricsServer> metrics_;
  std::unique_ptr<StatsFile> stats_file_;
  LogLimiter stats_log_{Duration::Seconds(60)};
  std::unique_ptr<Keeping> keeping_;
  std::unique_ptr<Predecessor> predecessor_;  // whose mount this goes on with
  std::unique_ptr<Interest> interest_;        // until something changes for others
  bool stopped_by_signal_ = false;
  bool restarted_ = false;  // by the keeper of a process that died
  bool replaced_ = false;
  absl::Status end_;  // of what was to be left to a successor
};

// An endpoint that was told a wrong size or base by the user is found out before anybody relies on
// the mount. What does not answer now may later; it is not for us to say.
absl::Status CheckEnds(transport::Channel& channel, const transport::Source& source) {
  const transport::Limits& limits = channel.limits();
  const uint64_t last = (limits.size_bytes - 1) / limits.alignment_bytes * limits.alignment_bytes;
  std::vector<std::byte> buffer(static_cast<std::size_t>(limits.alignment_bytes));
  for (const uint64_t offset : {uint64_t{0}, last}) {
    transport::Request request{.op = transport::Op::kRead, .offset = offset};
    request.buffer = buffer.data();
    request.length = buffer.size();
    if (transport::Run(channel, request).code != transport::Code::kDenied) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(channel.name(), ": the endpoint denies the ", offset == 0 ? "first" : "last",
                     " byte of ", source.Format(),
                     "; its memory lies elsewhere or is smaller: see "
                     "size= and base="));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<fs::Volume>> MountService::OpenVolume(SourceOpener& opener,
                                                                     std::size_t file) {
  OXMEM_ASSIGN_OR_RETURN(OpenedSource opened, opener.Open());
  if (opened.channel->limits().size_bytes == 0) {
    return absl::FailedPreconditionError(absl::StrCat(opened.channel->name(), ": has no bytes"));
  }
  if (statistics_[file].empty()) not_used_.push_back(FactOf(opened.facts(), kNotUsed));
  const transport::Source& source = spec_.sources[file];
  if (predecessor_ == nullptr && statistics_[file].empty() &&
      absl::StartsWith(source.scheme, "tloe")) {
    OXMEM_RETURN_IF_ERROR(CheckEnds(*opened.channel, source));
  }
  std::unique_ptr<fs::Volume> volume =
      std::make_unique<fs::RemoteVolume>(std::move(opened.channel));
  // Memory of this process is read and written in place. That of another one may be gone and come
  // back as a different one, which its channel sees.
  std::vector<int> own;
  opener.AddOwnMemory(&own);
  if (!own.empty() && fs::MappedVolume::Mappable(volume->info()).ok()) {
    OXMEM_ASSIGN_OR_RETURN(volume, fs::MappedVolume::Create(std::move(volume)));
  }
  auto counted = std::make_unique<fs::StatisticsVolume>(std::move(volume));
  statistics_[file].push_back(counted.get());
  return counted;
}

absl::Status MountService::OpenVolumes(
    std::vector<std::vector<std::unique_ptr<fs::Volume>>>& volumes,
    std::optional<KeptMemory> kept) {
  statistics_.resize(spec_.sources.size());
  for (const transport::Source& source : spec_.sources) {
    OXMEM_ASSIGN_OR_RETURN(auto opener,
                           SourceOpener::Create(source, kept.has_value() ? &*kept : nullptr));
    openers_.push_back(std::move(opener));
  }
  const std::size_t reactors = ReactorCount(spec_);
  for (std::size_t reactor = 0; reactor < reactors; ++reactor) {
    volumes.emplace_back();
    for (std::size_t file = 0; file < openers_.size(); ++file) {
      OXMEM_ASSIGN_OR_RETURN(auto volume, OpenVolume(*openers_[file], file));
      if (reactors > 1 && volume->info().block_bytes > 1) {
        return absl::InvalidArgumentError(
            absl::StrCat("threads=", reactors, ": ", volume->name(),
                         " takes only aligned requests, and two "
                         "threads could change one block at once; use threads=1"));
      }
      volumes.back().push_back(std::move(volume));
    }
  }
  return absl::OkStatus();
}

absl::Status MountService::Open() {
  OXMEM_ASSIGN_OR_RETURN(keeping_, Keeping::Start(plan_.keeper));
  OXMEM_ASSIGN_OR_RETURN(loop_, EventLoop::Create());
  OXMEM_ASSIGN_OR_RETURN(StopSignals signals, StopSignals::Block());
  signals_ = std::make_unique<StopSignals>(std::move(signals));
  restarted_ = plan_.predecessor.valid();
  if (!restarted_) {
    OXMEM_RETURN_IF_ERROR(CheckOwnPlaces(spec_));
    // Descriptors are all that there is so far.
    OXMEM_ASSIGN_OR_RETURN(interest_, Interest::Watch(plan_.waiting_fd, signals_->fd(), [] {}));
  }
  OXMEM_ASSIGN_OR_RETURN(predecessor_, FindPredecessor(&spec_, std::move(plan_.predecessor)));
  if (restarted_) {
    OXMEM_ASSIGN_OR_RETURN(interest_, Interest::Watch(-1, signals_->fd(), [this] { EndOrphan(); }));
  }
  OXMEM_RETURN_IF_ERROR(MountOrGoOn());
  return WatchEnds();
}

// A mount that nobody serves, and whose sources do not answer, is to be stopped as if it were
// served: who waits for it is told, and it goes.
void MountService::EndOrphan() {
  predecessor_->LetGo();
  const absl::Status gone = UnmountOrphan(*predecessor_);
  spdlog::warn("{}: stopped before its sources answered{}", spec_.options.directory,
               gone.ok() ? "" : absl::StrCat("; ", gone.message()));
}

absl::Status MountService::MountOrGoOn() {
  std::vector<std::vector<std::unique_ptr<fs::Volume>>> volumes;
  // What can fail does so before anything changes for those who use a mount that is there.
  std::optional<KeptMemory> kept;
  if (predecessor_ != nullptr) kept.emplace(predecessor_->TakeMemory());
  OXMEM_RETURN_IF_ERROR(OpenVolumes(volumes, std::move(kept)));
  if (predecessor_ != nullptr) {
    OXMEM_RETURN_IF_ERROR(CheckSuccession(*predecessor_, spec_, volumes[0]));
  }
  OXMEM_RETURN_IF_ERROR(Tolerated(OpenFigures()));
  interest_.reset();
  if (predecessor_ == nullptr) {
    OXMEM_ASSIGN_OR_RETURN(mount_,
                           fs::FuseMount::Create(spec_.options, spec_.files, std::move(volumes)));
  } else {
    OXMEM_ASSIGN_OR_RETURN(
        mount_, fs::FuseMount::PrepareTakeOver(spec_.options, spec_.files, std::move(volumes),
                                               predecessor_->TakeLife()));
    absl::StatusOr<std::vector<UniqueFd>> fuse_fds = predecessor_->Take();
    OXMEM_RETURN_IF_ERROR(Annotate(fuse_fds.status(), mount_->options().directory));
    OXMEM_RETURN_IF_ERROR(mount_->TakeOver(*std::move(fuse_fds)));
  }
  const absl::Status begun = Begin();
  if (!begun.ok()) {
    // Its keeper still has it, and finds another process for it.
    if (predecessor_ != nullptr) mount_->Leave();
    return begun;
  }
  if (predecessor_ != nullptr) {
    predecessor_->Taken();
    spdlog::log(restarted_ ? spdlog::level::warn : spdlog::level::info, "{}: taken over from {}",
                spec_.options.directory,
                predecessor_->serving() ? "another process" : "a process that died");
  }
  return absl::OkStatus();
}

absl::Status MountService::Begin() {
  // Before the mount answers, so that it never does when this cannot be.
  OXMEM_RETURN_IF_ERROR(OfferFigures());
  OXMEM_RETURN_IF_ERROR(mount_->Start());
  return Keep();
}

absl::Status MountService::Keep() {
  return keeping_->Keep({.loop = loop_.get(),
                         .directory = mount_->options().directory,
                         .things = [this] { return Things(); },
                         .leave = [this] { OnSuccessor(); }});
}

Keeper::Things MountService::Things() const {
  Keeper::Things things{.record = mount_->record_fd(),
                        .attributes = mount_->attributes_fd(),
                        .fuse_fds = mount_->fuse_fds(),
                        .memory = {},
                        .listening = {},
                        .survives_its_server = mount_->survives_its_server(),
                        .socket_path = {}};
  for (const auto& opener : openers_) opener->AddOwnMemory(&things.memory);
  if (metrics_ != nullptr) things.listening = metrics_->listening_fds();
  const absl::StatusOr<std::string> path = KeeperPathOf(mount_->options().device);
  if (path.ok()) things.socket_path = *path;
  return things;
}

absl::Status MountService::WatchEnds() {
  OXMEM_RETURN_IF_ERROR(loop_->Watch(signals_->fd(), EPOLLIN, [this](uint32_t) {
    if (signals_->Take() == 0) return;
    stopped_by_signal_ = true;
    loop_->Stop();
  }));
  return WatchMount();
}

absl::Status MountService::WatchMount() {
  return loop_->Watch(mount_->ended_fd(), EPOLLIN, [this](uint32_t) { loop_->Stop(); });
}

KeptMemory MountService::OwnMemory() const {
  std::vector<int> own;
  for (const auto& opener : openers_) opener->AddOwnMemory(&own);
  std::vector<UniqueFd> memory;
  for (const int fd : own) memory.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  return KeptMemory(std::move(memory));
}

// Of what it held it is its own successor.
absl::Status MountService::GoOn(fs::LiveMount life) {
  mount_.reset();  // whose end would end the claim of the next
  const Instant deadline = Now() + std::max(plan_.keeper.patience, kGoOnPatience);
  std::vector<std::vector<std::unique_ptr<fs::Volume>>> volumes;
  for (;;) {
    KeptMemory memory = OwnMemory();
    volumes.clear();
    statistics_.clear();
    not_used_.clear();
    std::vector<std::unique_ptr<SourceOpener>> before = std::exchange(openers_, {});
    const absl::Status opened = OpenVolumes(volumes, std::move(memory));
    if (opened.ok()) break;
    openers_ = std::move(before);
    spdlog::warn("{}: {}", spec_.options.directory, std::string(opened.message()));
    if (Now() > deadline) return opened;
    sleep(1);
  }
  std::vector<UniqueFd> fuse_fds = std::move(life.fuse_fds);
  OXMEM_ASSIGN_OR_RETURN(
      mount_, fs::FuseMount::PrepareTakeOver(spec_.options, spec_.files, std::move(volumes),
                                             std::move(life)));
  OXMEM_RETURN_IF_ERROR(mount_->TakeOver(std::move(fuse_fds)));
  OXMEM_RETURN_IF_ERROR(mount_->Start());
  return WatchMount();
}

absl::Status MountService::LeaveToSuccessor() {
  if (stats_file_ != nullptr) {
    const absl::Status written = stats_file_->Write(Figures(), kFileKind);
    if (!written.ok()) spdlog::warn("{}", std::string(written.message()));
  }
  loop_->Unwatch(mount_->ended_fd());
  fs::LiveMount life = mount_->Leave();
  const std::string directory = mount_->options().directory;
  if (!keeping_->SayLeft()) {
    const absl::Status on = GoOn(std::move(life));
    if (on.ok()) {
      spdlog::warn("{}: its keeper has ended, and so nobody else got the mount; it goes on here",
                   directory);
      keeping_->GoesOn();
      return absl::OkStatus();
    }
    if (!absl::IsAborted(on)) return on;
  }
  replaced_ = true;
  spdlog::info("{}: left to another process", directory);
  return absl::OkStatus();
}

void MountService::OnSuccessor() {
  end_ = LeaveToSuccessor();
  if (replaced_ || !end_.ok()) loop_->Stop();
}

// What is no reason to let a mount die that its users wait for.
absl::Status MountService::Tolerated(const absl::Status& status) const {
  if (status.ok() || !restarted_) return status;
  spdlog::warn("{}: {}", spec_.options.directory, std::string(status.message()));
  return absl::OkStatus();
}

absl::Status MountService::OpenFigures() {
  if (!spec_.stats_file.empty()) {
    stats_file_ = std::make_unique<StatsFile>(spec_.stats_file, spec_.stats_interval.seconds());
    OXMEM_RETURN_IF_ERROR(stats_file_->Check());
  }
  if (spec_.prometheus.empty()) return absl::OkStatus();
  std::vector<UniqueFd> inherited;
  if (predecessor_ != nullptr) inherited = predecessor_->TakeListening();
  OXMEM_ASSIGN_OR_RETURN(metrics_, MetricsServer::Start(
                                       loop_.get(), spec_.prometheus, [this] { return Figures(); },
                                       std::move(inherited)));
  return absl::OkStatus();
}

absl::Status MountService::OfferFigures() {
  std::map<std::string, ControlServer::Command> commands;
  commands["stats"] = [this](const Json&) -> absl::StatusOr<Json> {
    return FiguresJson(Figures());
  };
  const std::string& device = mount_->options().device;
  commands[LendCommand(device)] = [this](const Json&) -> absl::StatusOr<Json> {
    OXMEM_RETURN_IF_ERROR(keeping_->Lend());
    return Json::object();
  };
  commands[RemountName(device)] = [this](const Json& request) { return Remount(request); };
  auto control = ControlServer::Start(loop_.get(), std::move(commands));
  if (control.ok()) {
    control_ = *std::move(control);
  } else {
    spdlog::warn("oxmem stats will not see this mount: {}",
                 std::string(control.status().message()));
  }
  if (stats_file_ == nullptr) return absl::OkStatus();
  OXMEM_RETURN_IF_ERROR(Tolerated(stats_file_->Write(Figures(), kFileKind)));
  loop_->Every(spec_.stats_interval, [this] {
    const absl::Status written = stats_file_->Write(Figures(), kFileKind);
    uint64_t suppressed = 0;
    if (!written.ok() && stats_log_.Allow(Now(), &suppressed)) {
      spdlog::warn("{}", std::string(written.message()));
    }
  });
  return absl::OkStatus();
}

absl::StatusOr<Json> MountService::Remount(const Json& request) {
  if (!request.is_object() || !request.value("source", Json()).is_string() ||
      !request.value("options", Json()).is_array() ||
      !request.value("only_check", Json()).is_boolean()) {
    return absl::InvalidArgumentError("remount: source, options and only_check are wanted");
  }
  std::vector<std::string> option_lists;
  for (const Json& list : request["options"]) {
    if (!list.is_string()) return absl::InvalidArgumentError("remount: options are texts");
    option_lists.push_back(list.get<std::string>());
  }
  OXMEM_ASSIGN_OR_RETURN(MountSpec next,
                         Remounted(spec_, request["source"].get<std::string>(), option_lists));
  Json answer{{"read_only", next.options.read_only}, {"no_exec", next.options.no_exec}};
  if (request["only_check"].get<bool>()) return answer;
  OXMEM_RETURN_IF_ERROR(mount_->Change(next.options));
  spdlog::set_level(spdlog::level::from_str(next.log_level));
  spec_ = std::move(next);
  keeping_->Update();
  return answer;
}

std::string MountService::Describe() const {
  std::string text;
  for (std::size_t i = 0; i < mount_->files().size(); ++i) {
    const fs::FileTable::File& file = mount_->files().file(i);
    absl::StrAppend(&text, i == 0 ? "" : "\n", mount_->options().directory, "/", file.name, ": ",
                    file.provider, ", ", FormatSize(file.size_bytes), ", ",
                    fs::FileModeName(file.mode));
    if (!file.mode_reason.empty()) absl::StrAppend(&text, " (", file.mode_reason, ")");
    if (!not_used_[i].empty()) absl::StrAppend(&text, ", not used: ", not_used_[i]);
    if (predecessor_ != nullptr) absl::StrAppend(&text, ", taken over");
  }
  return text;
}

void MountService::LogNotUsed() const {
  for (std::size_t i = 0; i < not_used_.size(); ++i) {
    if (not_used_[i].empty()) continue;
    spdlog::warn("{}/{}: not used, as the smallest part decides: {}", mount_->options().directory,
                 mount_->files().file(i).name, not_used_[i]);
  }
}

bool MountService::GiveUp() {
  if (predecessor_ != nullptr) return false;
  control_.reset();
  metrics_.reset();
  keeping_.reset();
  const absl::Status unmounted = mount_->Shutdown();
  if (!unmounted.ok()) spdlog::warn("{}", std::string(unmounted.message()));
  return true;
}

absl::Status MountService::Run() {
  absl::Status status = loop_->Run();
  status.Update(end_);
  NotifyServiceManager("STOPPING=1");
  if (stats_file_ != nullptr && !replaced_ && end_.ok()) {
    status.Update(stats_file_->Write(Figures(), kFileKind));
  }
  control_.reset();
  metrics_.reset();
  // What the keeper holds would keep those waiting who have a file open while the mount goes.
  keeping_.reset();
  if (stopped_by_signal_) {
    const absl::Status unmounted = mount_->Shutdown();
    if (!unmounted.ok()) spdlog::warn("{}", std::string(unmounted.message()));
  }
  mount_.reset();
  return status;
}

ProcessFigures MountService::Figures() const {
  ProcessFigures process;
  process.pid = getpid();
  process.command = "mount";
  process.name = mount_->place();
  process.uptime = Now() - started_;
  process.resident_bytes = ResidentBytes();
  process.parts = MountFigures(*mount_, statistics_);
  for (std::size_t i = 0; i < not_used_.size(); ++i) {
    if (!not_used_[i].empty()) process.parts[i + 1].facts.emplace_back("not_used", not_used_[i]);
  }
  process.parts.front().facts.emplace_back("keeper", keeping_->kept() ? "yes" : "no");
  return process;
}

}  // namespace

absl::Status ServeMount(const MountSpec& spec, ServePlan plan,
                        const std::function<bool(const std::string& text)>& on_ready) {
  MountService service(spec, std::move(plan));
  OXMEM_RETURN_IF_ERROR(service.Open());
  const std::string text = service.Describe();
  if (!on_ready(text) && service.GiveUp()) {
    return absl::CancelledError(
        absl::StrCat(spec.options.directory, ": nobody waited for the mount; it is taken away"));
  }
  service.LogNotUsed();
  NotifyServiceManager(absl::StrCat("READY=1\nSTATUS=", text));
  return service.Run();
}

}  // namespace oxmem::apps
