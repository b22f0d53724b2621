#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/common/channel_wait.h"
#include "apps/common/cli.h"
#include "apps/common/figures_json.h"
#include "apps/common/progress.h"
#include "apps/common/signals.h"
#include "apps/common/text.h"
#include "apps/oxmem/command.h"
#include "apps/oxmem/number_option.h"
#include "apps/source/source_opener.h"
#include "transport/api/blocking.h"
#include "transport/base/log.h"
#include "transport/base/size.h"
#include "transport/base/status.h"

namespace oxmem::apps {
namespace {

using transport::Channel;
using transport::Code;
using transport::Completion;
using transport::Op;
using transport::Request;

constexpr char kProgram[] = "oxmem ping";
// A line for every answer, unless they come faster than people read.
constexpr double kLineIntervalSeconds = 0.1;
constexpr uint64_t kLineCount = 20;

struct PingOptions {
  std::string source;
  uint64_t count = 0;
  double interval_seconds = 1.0;
  std::string size = "64";
  std::string offset = "0";
  int64_t spin_us = 50;
  bool quiet = false;
  bool json = false;
};

class Pinger {
 public:
  Pinger(const PingOptions& options, Channel* channel, const StopSignals* signals, uint64_t offset,
         uint64_t size, ChannelWaiter waiter)
      : options_(options),
        channel_(channel),
        signals_(signals),
        offset_(offset),
        buffer_(size),
        spin_(Duration::Microseconds(options.spin_us)),
        waiter_(std::move(waiter)) {
    const bool few = options.interval_seconds >= kLineIntervalSeconds ||
                     (options.count != 0 && options.count <= kLineCount);
    lines_ = !options.json && !options.quiet && few;
  }

  absl::Status Run();
  int Report() const;

 private:
  // False if it was interrupted.
  bool PingOnce();
  bool SleepUntil(Instant next);
  void Say(const Completion& completion, Duration time);
  void PrintJson() const;

  const PingOptions& options_;
  Channel* channel_;
  const StopSignals* signals_;
  uint64_t offset_;
  std::vector<std::byte> buffer_;
  Duration spin_;
  ChannelWaiter waiter_;
  bool lines_;
  Progress progress_;
  Instant progress_due_;
  uint64_t sent_ = 0;
  uint64_t answered_ = 0;
  std::string last_failure_;
  Histogram latency_;
  Duration total_;
};

absl::Status Pinger::Run() {
  OXMEM_ASSIGN_OR_RETURN(const transport::MemoryHandle registered, channel_->Register(buffer_));
  if (!options_.json) {
    absl::PrintF("PING %s: %d bytes at 0x%x\n", channel_->name(), buffer_.size(), offset_);
    std::fflush(stdout);
  }
  const Instant begin = Now();
  const Duration interval =
      Duration::Nanoseconds(static_cast<int64_t>(options_.interval_seconds * 1e9));
  Instant next = begin;
  while ((options_.count == 0 || sent_ < options_.count) && std::ferror(stdout) == 0) {
    if (!SleepUntil(next) || !PingOnce()) break;
    next = std::max(next + interval, Now());
  }
  total_ = Now() - begin;
  progress_.Clear();
  return absl::OkStatus();
}

bool Pinger::SleepUntil(Instant next) {
  // Drives the channel meanwhile: a peer that went away is looked for between two pings too.
  std::array<Completion, 1> none;
  while (Now() < next) {
    waiter_.Wait(*channel_, none, Duration(), next, signals_->fd());
    if (signals_->Take() != 0) return false;
  }
  return signals_->Take() == 0;
}

bool Pinger::PingOnce() {
  const Request request{
      .op = Op::kRead, .offset = offset_, .length = buffer_.size(), .buffer = buffer_.data()};
  std::array<Completion, 1> completion;
  const Instant start = Now();
  if (channel_->Submit(std::span(&request, 1)) != 1) return false;
  if (waiter_.Wait(*channel_, completion, spin_, Instant::Never(), signals_->fd()) == 0) {
    channel_->Close();  // interrupted: the request ends, and the buffer is ours again
    waiter_.Wait(*channel_, completion, spin_, Instant::Never(), -1);
    return false;
  }
  const Duration time = Now() - start;
  ++sent_;
  if (completion[0].code == Code::kOk) {
    ++answered_;
    latency_.Record(time);
  } else {
    last_failure_ =
        std::string(transport::StatusOfCompletion(*channel_, request, completion[0]).message());
    if (const absl::Status health = channel_->health(); !health.ok()) {
      absl::StrAppend(&last_failure_, " (", std::string(health.message()), ")");
    }
  }
  Say(completion[0], time);
  return true;
}

void Pinger::Say(const Completion& completion, Duration time) {
  if (lines_ && completion.code == Code::kOk) {
    absl::PrintF("%d bytes from %s: seq=%d time=%s\n", buffer_.size(), channel_->name(), sent_,
                 FormatLatency(static_cast<double>(time.nanoseconds())));
    std::fflush(stdout);
  } else if (lines_) {
    absl::PrintF("seq=%d %s\n", sent_, last_failure_);
    std::fflush(stdout);
  } else if (progress_.visible() && !options_.json && Now() >= progress_due_) {
    progress_due_ = Now() + Duration::Milliseconds(100);
    const double done = options_.count == 0
                            ? 0.0
                            : static_cast<double>(sent_) / static_cast<double>(options_.count);
    progress_.Show(done,
                   absl::StrCat(FormatCount(static_cast<double>(sent_)), " sent, p50 ",
                                FormatLatency(static_cast<double>(latency_.PercentileNs(0.5)))));
  }
}

void Pinger::PrintJson() const {
  Json json;
  json["source"] = options_.source;
  json["name"] = channel_->name();
  json["bytes"] = buffer_.size();
  json["sent"] = sent_;
  json["answered"] = answered_;
  json["seconds"] = total_.seconds();
  json["latency"] = LatencyJson(latency_);
  if (!last_failure_.empty()) json["last_failure"] = last_failure_;
  absl::PrintF("%s\n", JsonText(json, 2));
}

int Pinger::Report() const {
  if (options_.json) {
    PrintJson();
  } else {
    const double lost =
        sent_ == 0 ? 0.0
                   : 100.0 * static_cast<double>(sent_ - answered_) / static_cast<double>(sent_);
    absl::PrintF("--- %s\n%d sent, %d answered, %.3g %% lost, in %.3g s\n", channel_->name(), sent_,
                 answered_, lost, total_.seconds());
    if (answered_ != 0) {
      absl::PrintF("%s\n%s", LatencyLine(latency_), LatencyChart(latency_));
    }
  }
  if (answered_ != 0 || std::ferror(stdout) != 0) return EndOutput(kProgram, kExitDone);
  return Fail(kProgram,
              absl::UnavailableError(last_failure_.empty() ? "nothing was sent" : last_failure_));
}

int RunPing(const PingOptions& options) {
  if (const absl::Status logging = SetUpLogging("error"); !logging.ok()) {
    return Fail(kProgram, logging);
  }
  const absl::StatusOr<uint64_t> size = ParseSize(options.size);
  if (!size.ok()) return Fail(kProgram, Annotate(size.status(), "--size"));
  const absl::StatusOr<uint64_t> offset = ParseSize(options.offset);
  if (!offset.ok()) return Fail(kProgram, Annotate(offset.status(), "--offset"));
  const absl::StatusOr<StopSignals> signals = StopSignals::Block();
  if (!signals.ok()) return Fail(kProgram, signals.status());
  const absl::StatusOr<OpenedSource> opened = OpenSource(options.source);
  if (!opened.ok()) return Fail(kProgram, opened.status());
  const transport::Limits& limits = opened->channel->limits();
  if (*size == 0 || *size > limits.largest_request_bytes ||
      !RangeFits(*offset, *size, limits.size_bytes)) {
    return Fail(kProgram,
                absl::InvalidArgumentError(absl::StrCat(
                    "cannot read ", FormatSize(*size), " at ", FormatSize(*offset), ": ",
                    opened->channel->name(), " has ", FormatSize(limits.size_bytes),
                    " and takes reads of 1 to ", FormatSize(limits.largest_request_bytes))));
  }
  absl::StatusOr<ChannelWaiter> waiter = ChannelWaiter::Create();
  if (!waiter.ok()) return Fail(kProgram, waiter.status());
  Pinger pinger(options, opened->channel.get(), &*signals, *offset, *size, *std::move(waiter));
  if (const absl::Status ran = pinger.Run(); !ran.ok()) return Fail(kProgram, ran);
  const int exit_code = pinger.Report();
  opened->channel->Close();
  return exit_code;
}

}  // namespace

void AddPingCommand(CLI::App& app, Run& run) {
  auto options = std::make_shared<PingOptions>();
  CLI::App* command = app.add_subcommand(
      "ping", "Read a little again and again, and show how long it takes and how it varies");
  command->add_option("SOURCE", options->source, "Where the memory is (see oxmem --help)")
      ->required();
  command->add_option("-c,--count", options->count, "Stop after N reads (default: at Ctrl-C)")
      ->type_name("N")
      ->check(WholeNumber(1, uint64_t{1} << 62));
  command
      ->add_option("-i,--interval", options->interval_seconds,
                   "Seconds between two reads, 0 for none (default 1)")
      ->type_name("SEC")
      ->check(DecimalNumber(0, 86400));
  command->add_option("-s,--size", options->size, "Bytes of a read (default 64)")
      ->type_name("BYTES");
  command->add_option("-o,--offset", options->offset, "Where to read (default 0)")
      ->type_name("BYTES");
  command
      ->add_option("--spin", options->spin_us,
                   "Microseconds to poll for an answer before sleeping (default 50)")
      ->type_name("US")
      ->check(WholeNumber(0, 1000000));
  command->add_flag("-q,--quiet", options->quiet, "Only the summary");
  command->add_flag("--json", options->json, "Print the summary as JSON, and nothing else");
  command->callback([options, &run] { run = [options] { return RunPing(*options); }; });
}

}  // namespace oxmem::apps
