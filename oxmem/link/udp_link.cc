#include "oxmem/link/udp_link.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "oxmem/link/packet_link.h"
#include "oxmem/link/udp_socket.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

constexpr std::size_t kSendBatch = 64;
// Each buffer holds the longest packet there is, whatever this end sends: the peer's network may
// allow longer ones. Untouched parts cost no memory.
constexpr std::size_t kReceiveBatch = 32;
constexpr std::size_t kReceiveStride = std::size_t{1} << 16;
// Fewer frames than this between two empty queues cannot have filled the kernel's.
constexpr std::size_t kBacklogFrames = 64;

bool IsCongestion(int error) { return error == EAGAIN || error == ENOBUFS || error == ENOMEM; }

class UdpLink final : public Link {
 public:
  UdpLink(UdpSocket socket, const std::optional<Address>& peer, std::size_t max_frame_bytes,
          std::size_t max_frame_limit)
      : socket_(std::move(socket)),
        peer_(peer),
        name_(absl::StrCat("udp ", FormatUdpAddress(peer ? *peer : socket_.local))),
        max_frame_bytes_(max_frame_bytes),
        max_frame_limit_(max_frame_limit),
        receive_buffer_(
            std::make_unique_for_overwrite<std::byte[]>(kReceiveBatch * kReceiveStride)) {
    Prepare();
  }

  absl::Status Send(std::span<const OutgoingFrame> frames) override;
  std::size_t Receive(std::span<IncomingFrame> frames) override;
  int fd() const override { return socket_.fd.get(); }
  std::size_t max_frame_bytes() const override { return max_frame_bytes_; }
  std::size_t max_frame_bytes_to(const Address& peer) const override;
  const std::string& name() const override { return name_; }
  std::string FormatAddress(const Address& address) const override {
    return FormatUdpAddress(address);
  }
  const Address& local_address() const override { return socket_.local; }
  const LinkStats& stats() const override { return stats_; }
  absl::Status health() const override;

 private:
  void Prepare();
  absl::Status SendBatch(std::span<const OutgoingFrame> batch);
  absl::Status OnSendError(int error);
  absl::Status TooLong(const OutgoingFrame& frame) const;
  std::size_t Deliver(std::size_t count, std::span<IncomingFrame> frames);
  void CountDrops(std::size_t received, std::size_t asked);

  UdpSocket socket_;
  const std::optional<Address> peer_;
  const std::string name_;
  const std::size_t max_frame_bytes_;
  const std::size_t max_frame_limit_;  // as the options say; 0 is none
  LinkStats stats_;
  bool refused_ = false;  // nobody listened at the peer when something was last heard of it

  std::array<sockaddr_storage, kSendBatch> send_names_;
  std::array<iovec, kSendBatch> send_vectors_;
  std::array<mmsghdr, kSendBatch> send_messages_;

  const std::unique_ptr<std::byte[]> receive_buffer_;
  std::array<sockaddr_storage, kReceiveBatch> receive_names_;
  std::array<iovec, kReceiveBatch> receive_vectors_;
  std::array<mmsghdr, kReceiveBatch> receive_messages_;
  std::size_t received_since_empty_ = 0;
  uint32_t drops_seen_ = 0;
};

void UdpLink::Prepare() {
  for (std::size_t i = 0; i < kSendBatch; ++i) {
    send_messages_[i] = {};
    send_messages_[i].msg_hdr.msg_iov = &send_vectors_[i];
    send_messages_[i].msg_hdr.msg_iovlen = 1;
  }
  for (std::size_t i = 0; i < kReceiveBatch; ++i) {
    receive_vectors_[i] = {receive_buffer_.get() + i * kReceiveStride, kReceiveStride};
    receive_messages_[i] = {};
    receive_messages_[i].msg_hdr.msg_iov = &receive_vectors_[i];
    receive_messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

absl::Status UdpLink::TooLong(const OutgoingFrame& frame) const {
  return absl::InvalidArgumentError(absl::StrCat("a frame of ", frame.bytes.size(),
                                                 " bytes was not sent: ", name_, " takes at most ",
                                                 max_frame_bytes_));
}

absl::Status UdpLink::Send(std::span<const OutgoingFrame> frames) {
  absl::Status status;
  const auto fits = [&](const OutgoingFrame& frame) {
    return frame.bytes.size() <= max_frame_bytes_;
  };
  while (!frames.empty()) {
    if (!fits(frames.front())) {
      status = TooLong(frames.front());
      stats_.send_drops.Increment();
      frames = frames.subspan(1);
      continue;
    }
    const auto most = frames.first(std::min(frames.size(), kSendBatch));
    const auto end = std::find_if_not(most.begin(), most.end(), fits);
    const auto batch = most.first(static_cast<std::size_t>(end - most.begin()));
    const absl::Status sent = SendBatch(batch);
    if (!sent.ok()) status = sent;
    frames = frames.subspan(batch.size());
  }
  return status;
}

absl::Status UdpLink::SendBatch(std::span<const OutgoingFrame> batch) {
  for (std::size_t i = 0; i < batch.size(); ++i) {
    msghdr& header = send_messages_[i].msg_hdr;
    if (peer_ && batch[i].to == *peer_) {
      header.msg_name = nullptr;
      header.msg_namelen = 0;
    } else {
      header.msg_name = &send_names_[i];
      header.msg_namelen = ToSockaddr(batch[i].to, socket_.family, send_names_[i]);
    }
    send_vectors_[i] = {const_cast<std::byte*>(batch[i].bytes.data()), batch[i].bytes.size()};
  }
  absl::Status status;
  std::size_t done = 0;
  bool retried = false;
  while (done < batch.size()) {
    const int sent = sendmmsg(fd(), send_messages_.data() + done,
                              static_cast<unsigned>(batch.size() - done), MSG_DONTWAIT);
    if (sent > 0) {
      for (int i = 0; i < sent; ++i) stats_.bytes_sent.Add(batch[done++].bytes.size());
      stats_.frames_sent.Add(static_cast<uint64_t>(sent));
      continue;
    }
    const int error = errno;
    if (error == EINTR) continue;
    // A refusal is about an earlier frame; this one has not been tried.
    if (error == ECONNREFUSED && !std::exchange(retried, true)) {
      refused_ = true;
      continue;
    }
    if (const absl::Status failed = OnSendError(error); !failed.ok()) status = failed;
    stats_.send_drops.Increment();
    ++done;
  }
  return status;
}

// What is wrong with the way to one of many peers is not wrong with the link.
absl::Status UdpLink::OnSendError(int error) {
  if (IsCongestion(error) || error == ECONNREFUSED || !peer_) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat(name_, ": ", std::string(strerror(error)), " (is the network interface up?)"));
}

std::size_t UdpLink::Receive(std::span<IncomingFrame> frames) {
  const std::size_t asked = std::min(frames.size(), kReceiveBatch);
  for (std::size_t i = 0; i < asked; ++i) {
    receive_messages_[i].msg_hdr.msg_name = &receive_names_[i];
    receive_messages_[i].msg_hdr.msg_namelen = sizeof(sockaddr_storage);
  }
  int received =
      recvmmsg(fd(), receive_messages_.data(), static_cast<unsigned>(asked), MSG_DONTWAIT, nullptr);
  if (received < 0 && errno == ECONNREFUSED) {
    refused_ = true;
    received = recvmmsg(fd(), receive_messages_.data(), static_cast<unsigned>(asked), MSG_DONTWAIT,
                        nullptr);
  }
  const auto count = static_cast<std::size_t>(std::max(received, 0));
  CountDrops(count, asked);
  return Deliver(count, frames);
}

std::size_t UdpLink::Deliver(std::size_t count, std::span<IncomingFrame> frames) {
  std::size_t delivered = 0;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const Address from = FromSockaddr(receive_names_[i]);
    // Between binding and connecting, others could have got in.
    if (peer_ && from != *peer_) continue;
    IncomingFrame& out = frames[delivered++];
    out.from = from;
    out.bytes = {static_cast<const std::byte*>(receive_vectors_[i].iov_base),
                 receive_messages_[i].msg_len};
    bytes += out.bytes.size();
  }
  if (delivered != 0) refused_ = false;
  stats_.frames_received.Add(delivered);
  stats_.bytes_received.Add(bytes);
  return delivered;
}

void UdpLink::CountDrops(std::size_t received, std::size_t asked) {
  received_since_empty_ += received;
  if (received == asked && received != 0) return;
  if (received_since_empty_ >= kBacklogFrames) {
    const uint32_t drops = UdpDrops(fd());
    stats_.receive_drops.Add(drops - std::exchange(drops_seen_, drops));
  }
  received_since_empty_ = 0;
}

std::size_t UdpLink::max_frame_bytes_to(const Address& peer) const {
  const absl::StatusOr<std::size_t> payload = UdpPayloadTo(socket_, peer);
  if (max_frame_limit_ != 0 || !payload.ok()) return max_frame_bytes_;
  return std::min(*payload, max_frame_bytes_);
}

absl::Status UdpLink::health() const {
  if (!peer_) return absl::OkStatus();
  if (const auto way = UdpPayloadTo(socket_, *peer_); !way.ok()) return way.status();
  if (refused_) {
    return absl::UnavailableError(
        absl::StrCat("nobody listens at ", name_, " (is the node running, with this port?)"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Link>> OpenUdpLink(const UdpLinkOptions& options) {
  const std::size_t asked = options.max_frame_bytes;
  if (asked != 0 && (asked < kSmallestMaxFrameBytes || asked > kLargestUdpPayload)) {
    return absl::InvalidArgumentError(
        absl::StrCat("frames of at most ", asked, " bytes do not suit UDP, which takes ",
                     kSmallestMaxFrameBytes, " to ", kLargestUdpPayload));
  }
  OXMEM_ASSIGN_OR_RETURN(UdpSocket socket, OpenUdpSocket(options));
  std::size_t max_frame_bytes = asked != 0 ? asked : kLargestUdpPayload;
  if (asked == 0 && options.peer) {
    OXMEM_ASSIGN_OR_RETURN(max_frame_bytes, UdpPayloadTo(socket, *options.peer));
  }
  return std::unique_ptr<Link>(std::make_unique<UdpLink>(std::move(socket), options.peer,
                                                         max_frame_bytes, options.max_frame_bytes));
}

}  // namespace oxmem::link
