#include "oxmem/link/packet_receiver.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace oxmem::link {
namespace {

// Buffers of long frames are fewer, so that a batch stays in the second-level cache.
constexpr std::size_t kBufferBytes = 1 << 20;
constexpr std::size_t kLargestBatch = 64;
constexpr std::size_t kSmallestBatch = 16;
// Where a frame begins in its buffer, so that the 64-bit words behind its header are aligned.
constexpr std::size_t kFrameOffset = 2;
constexpr std::size_t kAlignment = 64;
// Fewer frames than this between two empty queues cannot have filled the kernel's.
constexpr std::size_t kBacklogFrames = 64;
constexpr Duration kHealInterval = Duration::Milliseconds(100);

}  // namespace

bool PacketReceiver::Usable() {
  if (!broken_) return true;
  const Instant now = Now();
  if (now < next_heal_) return false;
  next_heal_ = now + kHealInterval;
  broken_ = !socket_.Heal().ok();
  return !broken_;
}

void PacketReceiver::OnError(int error) {
  if (error == EAGAIN || error == EINTR) return;
  // Said once when the interface goes down; on the same interface the kernel goes on by itself
  // when it comes up again.
  broken_ = true;
  next_heal_ = Instant();
}

BatchReceiver::BatchReceiver(PacketSocket& socket, LinkStats& stats)
    : PacketReceiver(socket, stats) {
  const std::size_t frame = kEthernetHeaderBytes + socket_.max_frame_bytes();
  const std::size_t stride = (kFrameOffset + frame + kAlignment - 1) / kAlignment * kAlignment;
  const std::size_t batch = std::clamp(kBufferBytes / stride, kSmallestBatch, kLargestBatch);
  buffer_ = std::make_unique_for_overwrite<std::byte[]>(batch * stride);
  vectors_.resize(batch);
  messages_.resize(batch);
  for (std::size_t i = 0; i < batch; ++i) {
    vectors_[i] = {buffer_.get() + i * stride + kFrameOffset, frame};
    messages_[i] = {};
    messages_[i].msg_hdr.msg_iov = &vectors_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

std::size_t BatchReceiver::Receive(std::span<IncomingFrame> frames) {
  if (!Usable()) return 0;
  const std::size_t asked = std::min(frames.size(), messages_.size());
  const int received =
      recvmmsg(socket_.fd(), messages_.data(), static_cast<unsigned>(asked), MSG_DONTWAIT, nullptr);
  if (received < 0) OnError(errno);
  const auto count = static_cast<std::size_t>(std::max(received, 0));
  CountDrops(count, asked);
  return Deliver(count, frames);
}

std::size_t BatchReceiver::Deliver(std::size_t count, std::span<IncomingFrame> frames) {
  std::size_t delivered = 0;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    // Longer than our frames may be: cut by the kernel, so useless.
    const bool cut = (messages_[i].msg_hdr.msg_flags & MSG_TRUNC) != 0;
    if (cut || messages_[i].msg_len < kEthernetHeaderBytes) {
      stats_.receive_drops.Increment();
      continue;
    }
    const auto* frame = static_cast<const std::byte*>(vectors_[i].iov_base);
    IncomingFrame& out = frames[delivered++];
    out.from = Address{};
    std::memcpy(out.from.bytes.data(), frame + sizeof(MacAddress::bytes),
                sizeof(MacAddress::bytes));
    out.bytes = {frame + kEthernetHeaderBytes, messages_[i].msg_len - kEthernetHeaderBytes};
    PrefetchEnd(out);
    bytes += out.bytes.size();
  }
  stats_.frames_received.Add(delivered);
  stats_.bytes_received.Add(bytes);
  return delivered;
}

void BatchReceiver::CountDrops(std::size_t received, std::size_t asked) {
  received_since_empty_ += received;
  if (received == asked && received != 0) return;
  if (received_since_empty_ >= kBacklogFrames) {
    stats_.receive_drops.Add(socket_.TakeReceiveDrops());
  }
  received_since_empty_ = 0;
}

}  // namespace oxmem::link
