#ifndef FS_VOLUME_REMOTE_VOLUME_H_
#define FS_VOLUME_REMOTE_VOLUME_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fs/volume/intrusive_list.h"
#include "fs/volume/unaligned_ends.h"
#include "fs/volume/volume.h"
#include "transport/api/channel.h"

namespace oxmem::fs {

// A volume over a channel. Owned and called by the channel's thread.
//
//   Start -> [blocked] -> queued -> parts staged -> parts at the channel -> finished
//
// Operations are split into parts the channel takes, issued in the order of their start as far as
// its depth allows, and finished when the last part is back, with the first error of any part;
// after an error the rest is not issued. Zeroing is writing zeros where the channel cannot do it.
// Ends that do not lie on the channel's alignment are read, changed and written back; a write that
// needs this, and a write that was given up while the channel had parts of it, keep later writes to
// the same blocks waiting ("blocked"), so that no older byte lands on a newer one.
class RemoteVolume final : public Volume {
 public:
  explicit RemoteVolume(std::unique_ptr<transport::Channel> channel);
  ~RemoteVolume() override;

  void Start(IoOp& op) override;
  void Cancel(IoOp& op) override;
  bool Poll() override;
  bool Arm() override;
  int event_fd() const override { return channel_->event_fd(); }
  Instant next_deadline() const override { return channel_->next_deadline(); }
  void Close() override;
  std::size_t in_flight() const override { return in_flight_; }
  absl::StatusOr<transport::MemoryHandle> Register(std::span<std::byte> memory) override {
    return channel_->Register(memory);
  }
  const VolumeInfo& info() const override { return info_; }
  const std::string& name() const override { return channel_->name(); }
  const transport::ChannelStats& channel_stats() const override { return channel_->stats(); }
  absl::Status health() const override { return channel_->health(); }

 private:
  using OpQueue = IntrusiveList<IoOp, &IoOp::queue_link>;
  using ActiveList = IntrusiveList<IoOp, &IoOp::active_link>;

  enum class Role : uint8_t { kMiddle, kEndRead, kEndWrite };
  struct Part {
    IoOp* op = nullptr;
    Role role = Role::kMiddle;
    uint8_t end = 0;  // which of the unaligned ends
  };

  // Whether the operation can be carried out at all.
  transport::Code Check(const IoOp& op) const;
  bool NeedsEnds(const IoOp& op) const;
  // Whether they touch a common block.
  bool Overlap(const IoOp& a, const IoOp& b) const;
  bool MustWait(const IoOp& op) const;
  void Admit(IoOp& op);
  void AdmitBlocked();

  // Stages parts and submits them until nothing is left or the channel is full.
  bool Issue();
  // Whether a part of the operation can be staged now.
  bool HasNext(const IoOp& op) const;
  // Stages the next part of its ends; false if there is none now. Then its middle has one.
  bool StageEnd(IoOp& op);
  void StageMiddle(IoOp& op);
  void StagePart(IoOp& op, Role role, int end, transport::Request request);
  void DropStaged(const IoOp& op);
  void ReturnPart(uint64_t index) { free_parts_.push_back(static_cast<uint32_t>(index)); }

  void OnCompletion(const transport::Completion& completion);
  // Issues nothing more of the operation, which ends with this code.
  void Stop(IoOp& op, transport::Code code, int32_t provider_code);
  void FinishIfDone(IoOp& op);

  std::unique_ptr<transport::Channel> channel_;
  VolumeInfo info_;
  uint64_t alignment_;
  uint64_t largest_part_;
  uint64_t zero_part_;
  UnalignedEnds ends_;
  std::vector<transport::MemoryHandle> registrations_;

  std::vector<Part> parts_;  // by cookie
  std::vector<uint32_t> free_parts_;
  std::array<transport::Request, 32> staged_;
  std::size_t staged_count_ = 0;

  OpQueue queue_;      // something left to issue
  OpQueue blocked_;    // wait for an exclusive operation, in order
  ActiveList active_;  // admitted, not finished
  std::size_t exclusive_count_ = 0;
  std::size_t in_flight_ = 0;
};

}  // namespace oxmem::fs

#endif  // FS_VOLUME_REMOTE_VOLUME_H_
