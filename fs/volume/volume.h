#ifndef FS_VOLUME_VOLUME_H_
#define FS_VOLUME_VOLUME_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fs/volume/io_op.h"
#include "transport/api/channel.h"
#include "transport/api/limits.h"
#include "transport/base/clock.h"

namespace oxmem::fs {

// Facts about a volume that never change.
struct VolumeInfo {
  uint64_t size_bytes = 0;
  uint64_t block_bytes = 1;  // any offset and length works; multiples of this cost least
  bool read_only = false;
  bool persistent = false;          // written data survives the node's process
  bool needs_registration = false;  // buffers that are not registered cost a copy
  bool cheap_zero = false;          // kZero does not send the zeros
  std::optional<transport::LocalMemory> local_memory;
};

// A run of bytes with asynchronous operations: what both front-ends are written against.
//
// Threads: one, the I/O thread, makes every call but info() and name(). OnIoDone of the listeners
// runs on it, inside Start, Cancel, Poll or Close, and may start further operations.
//
// Order: overlapping operations under way together are in no order, except that a write never
// overtakes an earlier one that was given up with Cancel. A flush covers every operation started
// before it.
class Volume {
 public:
  virtual ~Volume() = default;
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;

  // Takes the operation. It may be over when this returns; else Poll carries it on.
  virtual void Start(IoOp& op) = 0;

  // Gives up an operation that is under way: nothing more of it is sent, and it ends with kTimedOut
  // as soon as nothing can touch its buffer any more, which may be at once or much later.
  virtual void Cancel(IoOp& op) = 0;

  // Sends what was started, takes in what came, finishes operations. True if anything moved.
  virtual bool Poll() = 0;

  // As transport::Channel: Arm is false if Poll may have something to do already.
  virtual bool Arm() = 0;
  virtual int event_fd() const = 0;
  virtual Instant next_deadline() const = 0;

  // Everything under way ends, with kClosed where it was not done; Poll until in_flight is 0.
  virtual void Close() = 0;

  // Operations started and not finished.
  virtual std::size_t in_flight() const = 0;

  // Memory for buffers; the handle goes before the volume.
  virtual absl::StatusOr<transport::MemoryHandle> Register(std::span<std::byte> memory) = 0;

  virtual const VolumeInfo& info() const = 0;
  virtual const std::string& name() const = 0;
  virtual const transport::ChannelStats& channel_stats() const = 0;
  virtual absl::Status health() const = 0;

 protected:
  Volume() = default;
};

// A volume over another one that passes everything on; decorators override what they change.
class ForwardingVolume : public Volume {
 public:
  explicit ForwardingVolume(std::unique_ptr<Volume> beneath) : beneath_(std::move(beneath)) {}

  void Start(IoOp& op) override { beneath_->Start(op); }
  void Cancel(IoOp& op) override { beneath_->Cancel(op); }
  bool Poll() override { return beneath_->Poll(); }
  bool Arm() override { return beneath_->Arm(); }
  int event_fd() const override { return beneath_->event_fd(); }
  Instant next_deadline() const override { return beneath_->next_deadline(); }
  void Close() override { beneath_->Close(); }
  std::size_t in_flight() const override { return beneath_->in_flight(); }
  absl::StatusOr<transport::MemoryHandle> Register(std::span<std::byte> memory) override {
    return beneath_->Register(memory);
  }
  const VolumeInfo& info() const override { return beneath_->info(); }
  const std::string& name() const override { return beneath_->name(); }
  const transport::ChannelStats& channel_stats() const override {
    return beneath_->channel_stats();
  }
  absl::Status health() const override { return beneath_->health(); }

 protected:
  Volume& beneath() { return *beneath_; }
  const Volume& beneath() const { return *beneath_; }

 private:
  std::unique_ptr<Volume> beneath_;
};

}  // namespace oxmem::fs

#endif  // FS_VOLUME_VOLUME_H_
