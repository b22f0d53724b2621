#ifndef APPS_OXMEM_BENCH_RUN_H_
#define APPS_OXMEM_BENCH_RUN_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/common/event_loop.h"
#include "apps/common/figures.h"
#include "apps/common/progress.h"
#include "apps/load/load_worker.h"
#include "apps/oxmem/bench_options.h"
#include "apps/source/source_opener.h"

namespace oxmem::apps {

struct BenchResult {
  double seconds = 0;  // from the start of the first thread's load to the end of the last one's
  uint64_t operations = 0;
  uint64_t bytes = 0;
  uint64_t failures = 0;
  uint64_t mismatches = 0;
  Histogram latency;
  bool interrupted = false;
  std::optional<LoadFailure> failure;  // the first one of the first thread that has one
};

// One run of `oxmem bench`: threads that work, and the main thread that watches them. All methods
// are the main thread's.
class BenchRun {
 public:
  // Opens a channel for each thread.
  static absl::StatusOr<std::unique_ptr<BenchRun>> Create(const BenchOptions& options);
  ~BenchRun();

  // Runs to the end: of the time, of the count, or by a signal.
  absl::StatusOr<BenchResult> Run();

  const std::string& name() const { return threads_.front()->opened.channel->name(); }
  ProcessFigures Figures() const;

 private:
  struct Thread {
    OpenedSource opened;
    Facts facts;  // as it was opened; the thread owns the channel
    std::unique_ptr<LoadWorker> worker;
    int cpu = -1;
    absl::Status status;
    Instant begin;
    Instant end;
    std::thread thread;
  };

  explicit BenchRun(const BenchOptions& options) : options_(options), started_(Now()) {}
  absl::Status OpenThreads();
  absl::Status WatchEvents(EventLoop* loop);
  void Work(Thread& thread);
  void OnThreadEvent(EventLoop* loop);
  void ShowProgress();
  void EndThreads();
  BenchResult Result() const;

  const BenchOptions& options_;
  Instant started_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::atomic<LoadControl> control_ = LoadControl::kGo;
  std::atomic<uint32_t> prepared_ = 0;  // threads that have filled their range
  std::atomic<uint32_t> ended_ = 0;
  std::atomic<bool> gate_ = false;  // open: all are prepared, the load may begin
  UniqueFd event_;                  // readable when prepared_ or ended_ changed
  std::optional<Instant> load_began_;
  bool interrupted_ = false;
  Progress progress_;
  uint64_t shown_operations_ = 0;
  Instant shown_at_;
};

}  // namespace oxmem::apps

#endif  // APPS_OXMEM_BENCH_RUN_H_
