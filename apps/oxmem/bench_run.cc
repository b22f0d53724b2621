#include "apps/oxmem/bench_run.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "apps/common/control_server.h"
#include "apps/common/cpu_placement.h"
#include "apps/common/signals.h"
#include "apps/common/text.h"
#include "transport/api/source.h"
#include "transport/base/log.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

constexpr Duration kProgressInterval = Duration::Milliseconds(200);

}  // namespace

absl::StatusOr<std::unique_ptr<BenchRun>> BenchRun::Create(const BenchOptions& options) {
  std::unique_ptr<BenchRun> run(new BenchRun(options));
  run->event_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!run->event_.valid()) return ErrnoStatus(errno, "cannot create an event descriptor");
  OXMEM_RETURN_IF_ERROR(run->OpenThreads());
  return run;
}

BenchRun::~BenchRun() { EndThreads(); }

absl::Status BenchRun::OpenThreads() {
  OXMEM_ASSIGN_OR_RETURN(const transport::Source source, transport::ParseSource(options_.source));
  OXMEM_ASSIGN_OR_RETURN(const std::unique_ptr<SourceOpener> opener, SourceOpener::Create(source));
  std::vector<int> cpus;
  if (!options_.cpus.empty()) {
    OXMEM_ASSIGN_OR_RETURN(cpus, ParseCpuList(options_.cpus));
  }
  for (uint32_t i = 0; i < options_.threads; ++i) {
    auto thread = std::make_unique<Thread>();
    OXMEM_ASSIGN_OR_RETURN(thread->opened, opener->Open());
    thread->facts = thread->opened.facts();
    if (!cpus.empty()) thread->cpu = cpus[i % cpus.size()];
    threads_.push_back(std::move(thread));
  }
  OXMEM_ASSIGN_OR_RETURN(const std::vector<LoadOptions> loads,
                         LoadOfThreads(options_, threads_.front()->opened.channel->limits()));
  for (uint32_t i = 0; i < options_.threads; ++i) {
    Thread& thread = *threads_[i];
    OXMEM_ASSIGN_OR_RETURN(thread.worker,
                           LoadWorker::Create(thread.opened.channel.get(), loads[i]));
  }
  return absl::OkStatus();
}

void BenchRun::Work(Thread& thread) {
  if (thread.cpu >= 0) thread.status = PinThread(thread.cpu);
  if (thread.status.ok()) {
    thread.worker->Prepare(control_);
  } else {
    control_ = LoadControl::kAbort;
  }
  ++prepared_;
  eventfd_write(event_.get(), 1);
  gate_.wait(false);
  thread.begin = Now();
  if (thread.status.ok()) thread.worker->Run(control_);
  thread.end = Now();
  if (thread.status.ok()) thread.worker->Finish(control_);
  ++ended_;
  eventfd_write(event_.get(), 1);
}

absl::StatusOr<BenchResult> BenchRun::Run() {
  OXMEM_ASSIGN_OR_RETURN(const StopSignals signals, StopSignals::Block());
  OXMEM_ASSIGN_OR_RETURN(const std::unique_ptr<EventLoop> loop, EventLoop::Create());
  OXMEM_RETURN_IF_ERROR(loop->Watch(signals.fd(), EPOLLIN, [&](uint32_t) {
    if (signals.Take() == 0) return;
    interrupted_ = true;
    control_ = LoadControl::kAbort;
  }));
  OXMEM_RETURN_IF_ERROR(WatchEvents(loop.get()));
  std::map<std::string, ControlServer::Command> commands;
  commands["stats"] = [this](const Json&) -> absl::StatusOr<Json> {
    return FiguresJson(Figures());
  };
  const auto control = ControlServer::Start(loop.get(), std::move(commands));
  if (!control.ok())
    spdlog::info("oxmem stats cannot see this run: {}", std::string(control.status().message()));
  for (const auto& thread : threads_) {
    thread->thread = std::thread([this, raw = thread.get()] { Work(*raw); });
  }
  const absl::Status ran = loop->Run();
  EndThreads();
  progress_.Clear();
  OXMEM_RETURN_IF_ERROR(ran);
  for (const auto& thread : threads_) OXMEM_RETURN_IF_ERROR(thread->status);
  return Result();
}

absl::Status BenchRun::WatchEvents(EventLoop* loop) {
  if (progress_.visible()) loop->Every(kProgressInterval, [this] { ShowProgress(); });
  return loop->Watch(event_.get(), EPOLLIN, [this, loop](uint32_t) {
    eventfd_t value = 0;
    eventfd_read(event_.get(), &value);
    OnThreadEvent(loop);
  });
}

void BenchRun::OnThreadEvent(EventLoop* loop) {
  if (!gate_ && prepared_ == threads_.size()) {
    load_began_ = shown_at_ = Now();
    gate_ = true;
    gate_.notify_all();
    if (options_.count == 0) {
      const auto length = Duration::Nanoseconds(static_cast<int64_t>(options_.seconds * 1e9));
      loop->After(length, [this] {
        LoadControl expected = LoadControl::kGo;
        control_.compare_exchange_strong(expected, LoadControl::kEndRun);
      });
    }
  }
  if (ended_ == threads_.size()) loop->Stop();
}

void BenchRun::ShowProgress() {
  if (!load_began_) {
    progress_.Show(0.0, "filling the range");
    return;
  }
  uint64_t operations = 0;
  uint64_t bytes = 0;
  for (const auto& thread : threads_) {
    operations += thread->worker->counters().operations.value();
    bytes += thread->worker->counters().bytes.value();
  }
  const Instant now = Now();
  const double since = std::max((now - shown_at_).seconds(), 1e-9);
  const double rate = static_cast<double>(operations - shown_operations_) / since;
  const double size =
      operations == 0 ? 0.0 : static_cast<double>(bytes) / static_cast<double>(operations);
  const double done =
      options_.count == 0
          ? (now - *load_began_).seconds() / options_.seconds
          : static_cast<double>(operations) /
                (static_cast<double>(options_.count) * static_cast<double>(threads_.size()));
  progress_.Show(done, done >= 1.0 && options_.verify
                           ? std::string("checking the range")
                           : absl::StrCat(FormatCount(rate), "/s ", FormatThroughput(rate * size)));
  shown_operations_ = operations;
  shown_at_ = now;
}

void BenchRun::EndThreads() {
  control_ = ended_ == threads_.size() ? control_.load() : LoadControl::kAbort;
  gate_ = true;
  gate_.notify_all();
  for (const auto& thread : threads_) {
    if (thread->thread.joinable()) thread->thread.join();
  }
}

BenchResult BenchRun::Result() const {
  BenchResult result;
  Instant begin = Instant::Never();
  Instant end;
  for (const auto& thread : threads_) {
    const LoadCounters& counters = thread->worker->counters();
    result.operations += counters.operations.value();
    result.bytes += counters.bytes.value();
    result.failures += counters.failures.value();
    result.mismatches += counters.mismatches.value();
    result.latency.Merge(counters.latency);
    if (!result.failure) result.failure = thread->worker->failure();
    begin = std::min(begin, thread->begin);
    end = std::max(end, thread->end);
  }
  result.seconds = (end - begin).seconds();
  result.interrupted = interrupted_;
  return result;
}

ProcessFigures BenchRun::Figures() const {
  ProcessFigures process;
  process.pid = getpid();
  process.command = "bench";
  process.name = name();
  process.uptime = Now() - started_;
  process.resident_bytes = ResidentBytes();
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    const OpenedSource& opened = threads_[i]->opened;
    Part part;
    part.kind = "channel";
    part.name = threads_.size() == 1 ? opened.channel->name()
                                     : absl::StrCat(opened.channel->name(), " #", i);
    part.facts = threads_[i]->facts;
    ForEachCounter(opened.channel->stats(), part.Adder());
    part.AddLatency("latency", "of requests, submission to completion",
                    opened.channel->stats().latency);
    process.parts.push_back(std::move(part));
  }
  return process;
}

}  // namespace oxmem::apps
