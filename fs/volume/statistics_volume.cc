#include "fs/volume/statistics_volume.h"

#include <utility>

namespace oxmem::fs {

StatisticsVolume::StatisticsVolume(std::unique_ptr<Volume> under)
    : ForwardingVolume(std::move(under)) {}

void StatisticsVolume::Start(IoOp& op) {
  op.started_at = Now();
  op.AddListener(this);
  stats_.in_flight.Increment();
  beneath().Start(op);
}

void StatisticsVolume::OnIoDone(IoOp& op) {
  stats_.in_flight.Set(stats_.in_flight.value() - 1);
  if (op.code != transport::Code::kOk) {
    stats_.failures.Increment();
    return;
  }
  switch (op.kind) {
    case IoKind::kRead:
      stats_.reads.Increment();
      stats_.read_bytes.Add(op.length);
      stats_.read_latency.Record(Now() - op.started_at);
      return;
    case IoKind::kWrite:
      stats_.writes.Increment();
      stats_.write_bytes.Add(op.length);
      stats_.write_latency.Record(Now() - op.started_at);
      return;
    case IoKind::kZero:
      stats_.zeroes.Increment();
      stats_.zero_bytes.Add(op.length);
      return;
    case IoKind::kFlush:
      stats_.flushes.Increment();
      return;
  }
}

}  // namespace oxmem::fs
