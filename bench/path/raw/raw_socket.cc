#include "bench/path/raw/raw_socket.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "transport/base/byte_order.h"
#include "transport/base/status.h"
#include "transport/base/unique_fd.h"

namespace oxmem::bench {
namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kSourceBytes = std::size_t{1} << 20;
constexpr std::size_t kTouchBytes = std::size_t{8} << 20;
constexpr int kSocketBufferBytes = 8 << 20;
constexpr std::size_t kRingBlockBytes = std::size_t{1} << 18;

absl::Status Set(int fd, int option, const void* value, std::size_t size, const char* what) {
  if (setsockopt(fd, SOL_PACKET, option, value, static_cast<socklen_t>(size)) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, what);
}

absl::Status SetInt(int fd, int option, int value, const char* what) {
  return Set(fd, option, &value, sizeof value, what);
}

absl::Status Bind(int fd, const RawOptions& options, uint16_t protocol) {
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = options.interface_index;
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, "binding a packet socket");
}

absl::StatusOr<UniqueFd> OpenPacketSocket(int flags) {
  UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | flags, 0));
  if (!fd.valid()) return ErrnoStatus(errno, "opening a packet socket (needs CAP_NET_RAW)");
  for (const int option : {SO_RCVBUFFORCE, SO_SNDBUFFORCE}) {
    if (setsockopt(fd.get(), SOL_SOCKET, option, &kSocketBufferBytes, sizeof kSocketBufferBytes) !=
        0) {
      return ErrnoStatus(errno, "setting the buffer of a packet socket");
    }
  }
  return fd;
}

// The frames a sender takes turns with.
class Source {
 public:
  explicit Source(const RawOptions& options)
      : header_(RawHeader(options)), bytes_(kSourceBytes + kRawHeaderBytes + options.mtu) {}

  std::byte* Next(std::size_t frame_bytes) {
    if (at_ + frame_bytes > kSourceBytes) at_ = 0;
    std::byte* frame = bytes_.data() + std::exchange(at_, at_ + frame_bytes);
    std::memcpy(frame, header_.data(), header_.size());
    return frame;
  }

 private:
  const std::array<std::byte, kRawHeaderBytes> header_;
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

// Where a receiver that wants the contents copies them.
class Sink {
 public:
  explicit Sink(bool touch) : bytes_(touch ? kTouchBytes : 0) {}
  void Take(const std::byte* frame, std::size_t length) {
    if (bytes_.empty()) return;
    if (at_ + length > bytes_.size()) at_ = 0;
    std::memcpy(bytes_.data() + at_, frame, length);
    at_ += length;
  }

 private:
  std::vector<std::byte> bytes_;
  std::size_t at_ = 0;
};

class BatchSender final : public RawSender {
 public:
  BatchSender(UniqueFd fd, const RawOptions& options) : fd_(std::move(fd)), source_(options) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  std::size_t Send(std::size_t count, std::size_t frame_bytes) override {
    count = std::min(count, kBatch);
    for (std::size_t i = 0; i < count; ++i) vectors_[i] = {source_.Next(frame_bytes), frame_bytes};
    const int sent =
        sendmmsg(fd_.get(), messages_.data(), static_cast<unsigned>(count), MSG_DONTWAIT);
    return static_cast<std::size_t>(std::max(sent, 0));
  }

 private:
  const UniqueFd fd_;
  Source source_;
  std::array<iovec, kBatch> vectors_;
  std::array<mmsghdr, kBatch> messages_;
};

class BatchReceiver final : public RawReceiver {
 public:
  BatchReceiver(UniqueFd fd, const RawOptions& options) : fd_(std::move(fd)), sink_(options.touch) {
    const std::size_t stride = (kRawHeaderBytes + options.mtu + 63) / 64 * 64;
    count_ = std::clamp((std::size_t{1} << 20) / stride, std::size_t{16}, kBatch);
    buffer_.resize(count_ * stride);
    for (std::size_t i = 0; i < count_; ++i) {
      vectors_[i] = {buffer_.data() + i * stride, stride};
      messages_[i] = {};
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  std::size_t Receive(uint64_t& bytes) override {
    const int received =
        recvmmsg(fd_.get(), messages_.data(), static_cast<unsigned>(count_), MSG_DONTWAIT, nullptr);
    for (int i = 0; i < received; ++i) {
      const auto at = static_cast<std::size_t>(i);
      sink_.Take(static_cast<const std::byte*>(vectors_[at].iov_base), messages_[at].msg_len);
      bytes += messages_[at].msg_len;
    }
    return static_cast<std::size_t>(std::max(received, 0));
  }
  int fd() const override { return fd_.get(); }

 private:
  const UniqueFd fd_;
  Sink sink_;
  std::size_t count_ = 0;
  std::vector<std::byte> buffer_;
  std::array<iovec, kBatch> vectors_;
  std::array<mmsghdr, kBatch> messages_;
};

// Ring memory shared with the kernel.
class Mapping {
 public:
  static absl::StatusOr<Mapping> Make(int fd, std::size_t size) {
    void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (at == MAP_FAILED) return ErrnoStatus(errno, "mapping a packet ring");
    Mapping mapping;
    mapping.at_ = static_cast<std::byte*>(at);
    mapping.size_ = size;
    return mapping;
  }
  Mapping(Mapping&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (at_ != nullptr) munmap(at_, size_);
  }
  std::byte* at() const { return at_; }

 private:
  Mapping() = default;
  std::byte* at_ = nullptr;
  std::size_t size_ = 0;
};

struct RingShape {
  std::size_t slot_bytes = 0;
  std::size_t slots_per_block = 0;
  std::size_t blocks = 0;
  std::size_t slots() const { return slots_per_block * blocks; }
  std::size_t OffsetOf(std::size_t slot) const {
    return slot / slots_per_block * kRingBlockBytes + slot % slots_per_block * slot_bytes;
  }
};

RingShape ShapeFor(const RawOptions& options, std::size_t header_bytes) {
  RingShape shape;
  // The kernel aligns the network header and keeps room before it.
  const std::size_t need = header_bytes + 64 + kRawHeaderBytes + options.mtu;
  shape.slot_bytes = (need + TPACKET_ALIGNMENT - 1) / TPACKET_ALIGNMENT * TPACKET_ALIGNMENT;
  shape.slots_per_block = kRingBlockBytes / shape.slot_bytes;
  shape.blocks = std::max<std::size_t>(options.ring_bytes / kRingBlockBytes, 2);
  return shape;
}

tpacket_req RequestFor(const RingShape& shape) {
  tpacket_req request = {};
  request.tp_block_size = kRingBlockBytes;
  request.tp_block_nr = static_cast<unsigned>(shape.blocks);
  request.tp_frame_size = static_cast<unsigned>(shape.slot_bytes);
  request.tp_frame_nr = static_cast<unsigned>(shape.slots());
  return request;
}

uint32_t LoadStatus(tpacket2_hdr* header) {
  return std::atomic_ref<uint32_t>(header->tp_status).load(std::memory_order_acquire);
}
void StoreStatus(tpacket2_hdr* header, uint32_t status) {
  std::atomic_ref<uint32_t>(header->tp_status).store(status, std::memory_order_release);
}

class RingSender final : public RawSender {
 public:
  RingSender(UniqueFd fd, Mapping mapping, const RingShape& shape, const RawOptions& options)
      : fd_(std::move(fd)), mapping_(std::move(mapping)), shape_(shape), source_(options) {}

  std::size_t Send(std::size_t count, std::size_t frame_bytes) override {
    std::size_t put = 0;
    for (; put < std::min(count, kBatch); ++put) {
      auto* header = reinterpret_cast<tpacket2_hdr*>(mapping_.at() + shape_.OffsetOf(next_));
      const uint32_t status = LoadStatus(header);
      if (status != TP_STATUS_AVAILABLE && (status & TP_STATUS_WRONG_FORMAT) == 0) break;
      auto* data = reinterpret_cast<std::byte*>(header) + TPACKET2_HDRLEN - sizeof(sockaddr_ll);
      std::memcpy(data, source_.Next(frame_bytes), frame_bytes);
      header->tp_len = static_cast<uint32_t>(frame_bytes);
      StoreStatus(header, TP_STATUS_SEND_REQUEST);
      next_ = (next_ + 1) % shape_.slots();
    }
    (void)send(fd_.get(), nullptr, 0, MSG_DONTWAIT);
    return put;
  }

 private:
  const UniqueFd fd_;
  const Mapping mapping_;
  const RingShape shape_;
  Source source_;
  std::size_t next_ = 0;
};

class RingV2Receiver final : public RawReceiver {
 public:
  RingV2Receiver(UniqueFd fd, Mapping mapping, const RingShape& shape, const RawOptions& options)
      : fd_(std::move(fd)), mapping_(std::move(mapping)), shape_(shape), sink_(options.touch) {}

  std::size_t Receive(uint64_t& bytes) override {
    std::size_t got = 0;
    for (; got < kBatch; ++got) {
      auto* header = reinterpret_cast<tpacket2_hdr*>(mapping_.at() + shape_.OffsetOf(next_));
      if ((LoadStatus(header) & TP_STATUS_USER) == 0) break;
      sink_.Take(reinterpret_cast<std::byte*>(header) + header->tp_mac, header->tp_snaplen);
      bytes += header->tp_snaplen;
      StoreStatus(header, TP_STATUS_KERNEL);
      next_ = (next_ + 1) % shape_.slots();
    }
    return got;
  }
  int fd() const override { return fd_.get(); }

 private:
  const UniqueFd fd_;
  const Mapping mapping_;
  const RingShape shape_;
  Sink sink_;
  std::size_t next_ = 0;
};

class RingV3Receiver final : public RawReceiver {
 public:
  RingV3Receiver(UniqueFd fd, Mapping mapping, std::size_t blocks, const RawOptions& options)
      : fd_(std::move(fd)), mapping_(std::move(mapping)), blocks_(blocks), sink_(options.touch) {}

  std::size_t Receive(uint64_t& bytes) override {
    std::size_t got = 0;
    while (got < kBatch) {
      auto* block = reinterpret_cast<tpacket_block_desc*>(mapping_.at() + block_ * kRingBlockBytes);
      tpacket_hdr_v1& description = block->hdr.bh1;
      const std::atomic_ref<uint32_t> status(description.block_status);
      if ((status.load(std::memory_order_acquire) & TP_STATUS_USER) == 0) break;
      if (left_ == 0) {
        left_ = description.num_pkts;
        offset_ = description.offset_to_first_pkt;
      }
      while (left_ > 0 && got < kBatch) {
        auto* packet = reinterpret_cast<std::byte*>(block) + offset_;
        const auto* header = reinterpret_cast<const tpacket3_hdr*>(packet);
        sink_.Take(packet + header->tp_mac, header->tp_snaplen);
        bytes += header->tp_snaplen;
        offset_ += header->tp_next_offset;
        --left_;
        ++got;
      }
      if (left_ > 0) break;
      status.store(TP_STATUS_KERNEL, std::memory_order_release);
      block_ = (block_ + 1) % blocks_;
    }
    return got;
  }
  int fd() const override { return fd_.get(); }

 private:
  const UniqueFd fd_;
  const Mapping mapping_;
  const std::size_t blocks_;
  Sink sink_;
  std::size_t block_ = 0;
  std::size_t left_ = 0;
  std::size_t offset_ = 0;
};

absl::StatusOr<std::unique_ptr<RawReceiver>> OpenRingV3(UniqueFd fd, const RawOptions& options) {
  OXMEM_RETURN_IF_ERROR(SetInt(fd.get(), PACKET_VERSION, TPACKET_V3, "choosing ring version 3"));
  const RingShape shape = ShapeFor(options, TPACKET3_HDRLEN);
  tpacket_req3 request = {};
  request.tp_block_size = kRingBlockBytes;
  request.tp_block_nr = static_cast<unsigned>(shape.blocks);
  request.tp_frame_size = static_cast<unsigned>(shape.slot_bytes);
  request.tp_frame_nr = static_cast<unsigned>(shape.slots());
  request.tp_retire_blk_tov = 1;  // milliseconds, the shortest
  OXMEM_RETURN_IF_ERROR(
      Set(fd.get(), PACKET_RX_RING, &request, sizeof request, "making a receive ring"));
  OXMEM_ASSIGN_OR_RETURN(Mapping mapping, Mapping::Make(fd.get(), shape.blocks * kRingBlockBytes));
  OXMEM_RETURN_IF_ERROR(Bind(fd.get(), options, kRawEtherType));
  return std::unique_ptr<RawReceiver>(
      std::make_unique<RingV3Receiver>(std::move(fd), std::move(mapping), shape.blocks, options));
}

absl::StatusOr<std::unique_ptr<RawReceiver>> OpenRingV2(UniqueFd fd, const RawOptions& options) {
  OXMEM_RETURN_IF_ERROR(SetInt(fd.get(), PACKET_VERSION, TPACKET_V2, "choosing ring version 2"));
  const RingShape shape = ShapeFor(options, TPACKET2_HDRLEN);
  const tpacket_req request = RequestFor(shape);
  OXMEM_RETURN_IF_ERROR(
      Set(fd.get(), PACKET_RX_RING, &request, sizeof request, "making a receive ring"));
  OXMEM_ASSIGN_OR_RETURN(Mapping mapping, Mapping::Make(fd.get(), shape.blocks * kRingBlockBytes));
  OXMEM_RETURN_IF_ERROR(Bind(fd.get(), options, kRawEtherType));
  return std::unique_ptr<RawReceiver>(
      std::make_unique<RingV2Receiver>(std::move(fd), std::move(mapping), shape, options));
}

template <typename Way, std::size_t kCount>
std::optional<Way> Find(const std::array<std::pair<const char*, Way>, kCount>& names,
                        std::string_view text) {
  for (const auto& [name, way] : names) {
    if (text == name) return way;
  }
  return std::nullopt;
}

template <typename Way, std::size_t kCount>
const char* Name(const std::array<std::pair<const char*, Way>, kCount>& names, Way which) {
  for (const auto& [name, way] : names) {
    if (way == which) return name;
  }
  return "?";
}

constexpr std::array<std::pair<const char*, SendWay>, 4> kSendNames = {{
    {"batch", SendWay::kBatch},
    {"batch-bypass", SendWay::kBatchBypass},
    {"ring", SendWay::kRing},
    {"ring-bypass", SendWay::kRingBypass},
}};
constexpr std::array<std::pair<const char*, ReceiveWay>, 3> kReceiveNames = {{
    {"batch", ReceiveWay::kBatch},
    {"ring-v2", ReceiveWay::kRingV2},
    {"ring-v3", ReceiveWay::kRingV3},
}};

}  // namespace

std::array<std::byte, kRawHeaderBytes> RawHeader(const RawOptions& options) {
  std::array<std::byte, kRawHeaderBytes> header;
  std::memcpy(header.data(), options.peer.bytes.data(), 6);
  std::memcpy(header.data() + 6, options.own.bytes.data(), 6);
  StoreBigEndian<uint16_t>(header.data() + 12, kRawEtherType);
  return header;
}

std::optional<SendWay> ParseSendWay(std::string_view text) { return Find(kSendNames, text); }
std::optional<ReceiveWay> ParseReceiveWay(std::string_view text) {
  return Find(kReceiveNames, text);
}
const char* NameOf(SendWay way) { return Name(kSendNames, way); }
const char* NameOf(ReceiveWay way) { return Name(kReceiveNames, way); }

absl::StatusOr<std::unique_ptr<RawSender>> OpenSender(SendWay way, const RawOptions& options) {
  OXMEM_ASSIGN_OR_RETURN(UniqueFd fd, OpenPacketSocket(0));
  const bool ring = way == SendWay::kRing || way == SendWay::kRingBypass;
  const bool bypass = way == SendWay::kBatchBypass || way == SendWay::kRingBypass;
  if (bypass) {
    OXMEM_RETURN_IF_ERROR(
        SetInt(fd.get(), PACKET_QDISC_BYPASS, 1, "going around the queueing discipline"));
  }
  if (!ring) {
    OXMEM_RETURN_IF_ERROR(Bind(fd.get(), options, 0));
    return std::unique_ptr<RawSender>(std::make_unique<BatchSender>(std::move(fd), options));
  }
  OXMEM_RETURN_IF_ERROR(SetInt(fd.get(), PACKET_VERSION, TPACKET_V2, "choosing ring version 2"));
  const RingShape shape = ShapeFor(options, TPACKET2_HDRLEN);
  const tpacket_req request = RequestFor(shape);
  OXMEM_RETURN_IF_ERROR(
      Set(fd.get(), PACKET_TX_RING, &request, sizeof request, "making a transmit ring"));
  OXMEM_ASSIGN_OR_RETURN(Mapping mapping, Mapping::Make(fd.get(), shape.blocks * kRingBlockBytes));
  OXMEM_RETURN_IF_ERROR(Bind(fd.get(), options, 0));
  return std::unique_ptr<RawSender>(
      std::make_unique<RingSender>(std::move(fd), std::move(mapping), shape, options));
}

absl::StatusOr<std::unique_ptr<RawReceiver>> OpenReceiver(ReceiveWay way,
                                                          const RawOptions& options) {
  OXMEM_ASSIGN_OR_RETURN(UniqueFd fd, OpenPacketSocket(SOCK_NONBLOCK));
  switch (way) {
    case ReceiveWay::kBatch:
      OXMEM_RETURN_IF_ERROR(Bind(fd.get(), options, kRawEtherType));
      return std::unique_ptr<RawReceiver>(std::make_unique<BatchReceiver>(std::move(fd), options));
    case ReceiveWay::kRingV2:
      return OpenRingV2(std::move(fd), options);
    case ReceiveWay::kRingV3:
      return OpenRingV3(std::move(fd), options);
  }
  return absl::InternalError("no such way to receive");
}

absl::StatusOr<int> OpenPlainSocket(const RawOptions& options) {
  OXMEM_ASSIGN_OR_RETURN(UniqueFd fd, OpenPacketSocket(0));
  OXMEM_RETURN_IF_ERROR(Bind(fd.get(), options, kRawEtherType));
  return fd.Release();
}

}  // namespace oxmem::bench
