#ifndef BENCH_PATH_RAW_RAW_RUN_H_
#define BENCH_PATH_RAW_RAW_RUN_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "bench/path/raw/raw_socket.h"
#include "transport/base/clock.h"
#include "transport/base/histogram.h"

namespace oxmem::bench {

// How an end waits for a frame: in the receive call, in poll and then receives, or not at all.
enum class WaitWay : uint8_t { kBlock, kPoll, kSpin };

// One of the two ends, each a process of its own.
struct RawEnd {
  std::string namespace_path;  // empty: the one of this process
  std::string interface;
  int cpu = 0;
};

struct RawPlan {
  RawEnd near;
  RawEnd far;
  WaitWay wait = WaitWay::kBlock;
  SendWay send = SendWay::kBatch;
  ReceiveWay receive = ReceiveWay::kBatch;
  // With the Ethernet header.
  std::size_t request_bytes = 70;
  std::size_t response_bytes = 70;
  // Requests under way, and for the one-way run the frames sent and not yet received (0: as many
  // as the sender can; what is lost then does not count).
  std::size_t depth = 1;
  bool touch = true;
  std::size_t ring_bytes = std::size_t{4} << 20;
  Duration time = Duration::Seconds(1);
};

struct RawResult {
  uint64_t frames = 0;  // one-way: received; otherwise: answers
  uint64_t bytes = 0;
  uint64_t sent = 0;
  double seconds = 0;
  Histogram latency;  // of ping-pong only
};

// One request at a time, with the plainest system calls.
absl::StatusOr<RawResult> RunPingPong(const RawPlan& plan);

// `depth` requests at a time, sent and received in batches.
absl::StatusOr<RawResult> RunRate(const RawPlan& plan);

// Frames of `request_bytes` from near to far.
absl::StatusOr<RawResult> RunOneWay(const RawPlan& plan);

}  // namespace oxmem::bench

#endif  // BENCH_PATH_RAW_RAW_RUN_H_
