#ifndef APPS_LOAD_LOAD_WORKER_H_
#define APPS_LOAD_LOAD_WORKER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/load/block_ledger.h"
#include "apps/load/load.h"
#include "apps/load/pattern.h"
#include "transport/api/channel.h"

namespace oxmem::apps {

// What a worker is told from outside, by any thread.
enum class LoadControl : uint8_t {
  kGo,
  kEndRun,  // Run returns when what is under way has completed
  kAbort,   // everything returns at once; the channel is closed
};

// Keeps a channel busy as LoadOptions say. Created by any thread; then Prepare, Run and Finish are
// called in this order by one thread, which owns the channel meanwhile. An operation costs no
// allocation, lock or system call of the worker's own.
class LoadWorker {
 public:
  // Refuses options that the channel cannot serve. The channel outlives the worker.
  static absl::StatusOr<std::unique_ptr<LoadWorker>> Create(transport::Channel* channel,
                                                            const LoadOptions& options);
  ~LoadWorker();
  LoadWorker(const LoadWorker&) = delete;
  LoadWorker& operator=(const LoadWorker&) = delete;

  // With verify: writes every block once, so that there is something to check.
  void Prepare(const std::atomic<LoadControl>& control);

  // Works until the count is reached, it is told to end, or something goes wrong.
  void Run(const std::atomic<LoadControl>& control);

  // With verify: reads every block whose contents are known once more and checks it.
  void Finish(const std::atomic<LoadControl>& control);

  // Of Run; mismatches also of Finish.
  const LoadCounters& counters() const { return counters_; }
  // After the thread has ended.
  const std::optional<LoadFailure>& failure() const { return failure_; }

 private:
  struct Slot {
    Instant started;
    uint64_t block = 0;
    transport::Op op = transport::Op::kRead;
  };
  struct Mapping;
  enum class Phase { kFill, kLoad, kCheck };

  LoadWorker(transport::Channel* channel, const LoadOptions& options, ChannelWaiter waiter);
  absl::Status MakeBuffers();
  void Loop(Phase phase, const std::atomic<LoadControl>& control);
  bool MoreToStart() const;
  std::optional<uint64_t> PickBlock();
  transport::Op PickOp(uint64_t block);
  // Makes requests for free slots, as far as there is work for them.
  void MakeRequests();
  transport::Request MakeRequest(uint32_t slot_index, uint64_t block, transport::Op op);
  void SubmitRequests();
  void DropRequests();
  void OnCompletion(Instant now, const transport::Completion& completion);
  void CheckContents(uint32_t slot_index, const transport::Completion& completion);
  void OnFailure(const Slot& slot, transport::Code code);
  std::span<std::byte> BufferOf(uint32_t slot_index) const;
  BlockPattern PatternOf(uint64_t block, uint32_t generation) const;

  transport::Channel* channel_;
  LoadOptions options_;
  ChannelWaiter waiter_;
  uint64_t blocks_;
  std::unique_ptr<Mapping> mapping_;
  transport::MemoryHandle registration_;
  std::size_t buffer_stride_ = 0;
  Random random_;
  BlockLedger ledger_;  // of no block without verify
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  std::vector<transport::Request> requests_;  // made, [submitted_, end) not taken yet
  std::size_t submitted_ = 0;
  std::vector<transport::Completion> completions_;
  std::size_t in_flight_ = 0;
  Phase phase_ = Phase::kLoad;
  uint64_t next_block_ = 0;  // of a sequential walk
  uint64_t started_ = 0;     // operations of this phase
  bool stopping_ = false;
  LoadCounters counters_;
  std::optional<LoadFailure> failure_;
};

}  // namespace oxmem::apps

#endif  // APPS_LOAD_LOAD_WORKER_H_
