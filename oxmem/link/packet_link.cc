#include "oxmem/link/packet_link.h"

#include <utility>

#include "oxmem/link/packet_receiver.h"
#include "oxmem/link/packet_ring_receiver.h"
#include "oxmem/link/packet_sender.h"
#include "oxmem/link/packet_socket.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

class PacketLink final : public Link {
 public:
  explicit PacketLink(PacketSocket socket)
      : socket_(std::move(socket)),
        name_(socket_.interface().name),
        local_address_(AddressOfMac(socket_.mac())),
        sender_(socket_, stats_) {}

  // Lets frames come in.
  absl::Status Start(const PacketLinkOptions& options);

  absl::Status Send(std::span<const OutgoingFrame> frames) override { return sender_.Send(frames); }
  std::size_t Receive(std::span<IncomingFrame> frames) override {
    return receiver_->Receive(frames);
  }
  int fd() const override { return socket_.fd(); }
  std::size_t max_frame_bytes() const override { return socket_.max_frame_bytes(); }
  const std::string& name() const override { return name_; }
  std::string FormatAddress(const Address& address) const override {
    return FormatMacAddress(MacOfAddress(address));
  }
  const Address& local_address() const override { return local_address_; }
  const LinkStats& stats() const override { return stats_; }
  absl::Status health() const override { return socket_.Health(); }

 private:
  PacketSocket socket_;
  const std::string name_;
  const Address local_address_;
  LinkStats stats_;
  PacketSender sender_;
  std::unique_ptr<PacketReceiver> receiver_;
};

bool WantsRing(PacketReceive receive, std::size_t max_frame_bytes) {
  switch (receive) {
    case PacketReceive::kAuto:
      return max_frame_bytes >= kRingFrameBytes;
    case PacketReceive::kBatch:
      return false;
    case PacketReceive::kRing:
      return true;
  }
  return false;
}

absl::Status PacketLink::Start(const PacketLinkOptions& options) {
  if (WantsRing(options.receive, socket_.max_frame_bytes())) {
    auto ring = PacketRingReceiver::Make(socket_, stats_, options.ring_bytes);
    if (!ring.ok() && options.receive == PacketReceive::kRing) return ring.status();
    if (ring.ok()) receiver_ = *std::move(ring);
  }
  // Also where the kernel had no memory for a ring nobody insisted on.
  if (receiver_ == nullptr) receiver_ = std::make_unique<BatchReceiver>(socket_, stats_);
  return socket_.Bind();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Link>> OpenPacketLink(const PacketLinkOptions& options) {
  OXMEM_ASSIGN_OR_RETURN(PacketSocket socket, PacketSocket::Open(options));
  auto link = std::make_unique<PacketLink>(std::move(socket));
  OXMEM_RETURN_IF_ERROR(link->Start(options));
  return std::unique_ptr<Link>(std::move(link));
}

}  // namespace oxmem::link
