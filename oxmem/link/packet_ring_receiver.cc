#include "oxmem/link/packet_ring_receiver.h"

#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "absl/memory/memory.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

// The kernel takes each block as one piece if it can; slots do not cross from one to the next.
// Long ones get larger blocks, so that little is left over at the end of each.
constexpr std::size_t kBlockBytes = std::size_t{1} << 18;
constexpr std::size_t kLongSlotBytes = std::size_t{1} << 14;
constexpr std::size_t kLongBlockBytes = std::size_t{1} << 20;
constexpr std::size_t kSmallestSlots = 128;
// The socket is asked for an error once in this many times that no frame was there.
constexpr unsigned kEmptyReceives = 64;
// Room the kernel leaves between its header and the frame, at most.
constexpr std::size_t kSlotHeadroom = 64;

// The slots are shared with the kernel in its own layout, so its own structure is used; the status
// word hands a slot over and is accessed atomically.
uint32_t LoadStatus(std::byte* slot) {
  auto& status = reinterpret_cast<tpacket2_hdr*>(slot)->tp_status;
  return std::atomic_ref<uint32_t>(status).load(std::memory_order_acquire);
}

void GiveBack(std::byte* slot) {
  auto& status = reinterpret_cast<tpacket2_hdr*>(slot)->tp_status;
  std::atomic_ref<uint32_t>(status).store(TP_STATUS_KERNEL, std::memory_order_release);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PacketRingReceiver>> PacketRingReceiver::Make(
    PacketSocket& socket, LinkStats& stats, std::size_t ring_bytes) {
  auto ring = absl::WrapUnique(new PacketRingReceiver(socket, stats));
  const std::size_t need =
      TPACKET2_HDRLEN + kSlotHeadroom + kEthernetHeaderBytes + socket.max_frame_bytes();
  const std::size_t slot_bytes = TPACKET_ALIGN(need);
  const std::size_t block_bytes = slot_bytes < kLongSlotBytes ? kBlockBytes : kLongBlockBytes;
  const std::size_t per_block = block_bytes / slot_bytes;
  const std::size_t blocks =
      std::max(ring_bytes / block_bytes, (kSmallestSlots + per_block - 1) / per_block);
  const std::size_t slots = blocks * per_block;

  const int version = TPACKET_V2;
  tpacket_req request = {};
  request.tp_block_size = static_cast<unsigned>(block_bytes);
  request.tp_block_nr = static_cast<unsigned>(blocks);
  request.tp_frame_size = static_cast<unsigned>(slot_bytes);
  request.tp_frame_nr = static_cast<unsigned>(slots);
  const int fd = socket.fd();
  if (setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0) {
    return ErrnoStatus(errno, "making a receive ring");
  }
  const std::size_t size = blocks * block_bytes;
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (at == MAP_FAILED) {
    const int error = errno;
    // Frames would go into the ring unseen if the socket were used without it.
    request = {};
    (void)setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request);
    return ErrnoStatus(error, "mapping a receive ring");
  }
  ring->ring_ = static_cast<std::byte*>(at);
  ring->ring_bytes_ = size;
  for (std::size_t i = 0; i < slots; ++i) {
    ring->slots_.push_back(ring->ring_ + i / per_block * block_bytes + i % per_block * slot_bytes);
  }
  return ring;
}

PacketRingReceiver::~PacketRingReceiver() {
  if (ring_ != nullptr) munmap(ring_, ring_bytes_);
}

void PacketRingReceiver::Release() {
  for (; first_ != next_; first_ = Next(first_)) GiveBack(slots_[first_]);
}

// The ring can only have been full if it has been emptied of many frames.
void PacketRingReceiver::OnEmpty(std::size_t received) {
  if (received >= slots_.size() / 2) stats_.receive_drops.Add(socket_.TakeReceiveDrops());
}

// An error makes the descriptor readable until it was asked for.
void PacketRingReceiver::CheckSocket() {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error != 0) {
    OnError(error);
  }
}

std::size_t PacketRingReceiver::Receive(std::span<IncomingFrame> frames) {
  Release();
  if (!Usable()) return 0;
  std::size_t delivered = 0;
  std::size_t bytes = 0;
  // One slot stays with the kernel, so that first_ == next_ means that none is handed out.
  for (std::size_t taken = 0; delivered < frames.size() && taken + 1 < slots_.size(); ++taken) {
    std::byte* slot = slots_[next_];
    if ((LoadStatus(slot) & TP_STATUS_USER) == 0) break;
    next_ = Next(next_);
    const auto* header = reinterpret_cast<const tpacket2_hdr*>(slot);
    if (header->tp_len != header->tp_snaplen || header->tp_len < kEthernetHeaderBytes) {
      stats_.receive_drops.Increment();  // longer than our frames may be, and cut
      continue;
    }
    const std::byte* frame = slot + header->tp_mac;
    IncomingFrame& out = frames[delivered++];
    out.from = Address{};
    std::memcpy(out.from.bytes.data(), frame + sizeof(MacAddress::bytes),
                sizeof(MacAddress::bytes));
    out.bytes = {frame + kEthernetHeaderBytes, header->tp_len - kEthernetHeaderBytes};
    PrefetchEnd(out);
    bytes += out.bytes.size();
  }
  if (delivered == frames.size()) {
    received_since_empty_ += delivered;
  } else {
    OnEmpty(received_since_empty_ + delivered);
    received_since_empty_ = 0;
  }
  if (delivered == 0 && ++empty_receives_ % kEmptyReceives == 0) CheckSocket();
  stats_.frames_received.Add(delivered);
  stats_.bytes_received.Add(bytes);
  return delivered;
}

}  // namespace oxmem::link
