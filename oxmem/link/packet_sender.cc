#include "oxmem/link/packet_sender.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "transport/base/status.h"

namespace oxmem::link {
namespace {

bool IsCongestion(int error) { return error == EAGAIN || error == ENOBUFS || error == ENOMEM; }

}  // namespace

PacketSender::PacketSender(PacketSocket& socket, LinkStats& stats)
    : socket_(socket), stats_(stats) {
  headers_.fill(socket_.HeaderTemplate());
  for (std::size_t i = 0; i < kBatch; ++i) {
    vectors_[i][0] = {headers_[i].data(), kEthernetHeaderBytes};
    messages_[i] = {};
    messages_[i].msg_hdr.msg_iov = vectors_[i].data();
    messages_[i].msg_hdr.msg_iovlen = vectors_[i].size();
  }
}

absl::Status PacketSender::Send(std::span<const OutgoingFrame> frames) {
  absl::Status status;
  const auto fits = [&](const OutgoingFrame& frame) {
    return frame.bytes.size() <= socket_.max_frame_bytes();
  };
  while (!frames.empty()) {
    if (!fits(frames.front())) {
      status = socket_.FrameTooLong(frames.front().bytes.size());
      stats_.send_drops.Increment();
      frames = frames.subspan(1);
      continue;
    }
    const auto most = frames.first(std::min(frames.size(), kBatch));
    const auto end = std::find_if_not(most.begin(), most.end(), fits);
    const auto batch = most.first(static_cast<std::size_t>(end - most.begin()));
    const absl::Status sent = SendBatch(batch);
    if (!sent.ok()) status = sent;
    frames = frames.subspan(batch.size());
  }
  return status;
}

absl::Status PacketSender::SendBatch(std::span<const OutgoingFrame> batch) {
  for (std::size_t i = 0; i < batch.size(); ++i) {
    std::memcpy(headers_[i].data(), batch[i].to.bytes.data(), sizeof(MacAddress::bytes));
    vectors_[i][1] = {const_cast<std::byte*>(batch[i].bytes.data()), batch[i].bytes.size()};
  }
  absl::Status status;
  bool healed = false;
  std::size_t done = 0;
  while (done < batch.size()) {
    const int sent = sendmmsg(socket_.fd(), messages_.data() + done,
                              static_cast<unsigned>(batch.size() - done), MSG_DONTWAIT);
    if (sent > 0) {
      for (int i = 0; i < sent; ++i) stats_.bytes_sent.Add(batch[done++].bytes.size());
      stats_.frames_sent.Add(static_cast<uint64_t>(sent));
      continue;
    }
    const int error = errno;
    if (error == EINTR) continue;
    if (IsCongestion(error) || error == EMSGSIZE) {
      if (error == EMSGSIZE) status = socket_.FrameTooLong(batch[done].bytes.size());
      stats_.send_drops.Increment();
      ++done;
      continue;
    }
    status = socket_.Heal();
    if (status.ok() && !healed) {
      healed = true;
      continue;
    }
    if (status.ok()) status = ErrnoStatus(error, absl::StrCat(socket_.interface().name, ": send"));
    stats_.send_drops.Add(batch.size() - done);
    break;
  }
  return status;
}

}  // namespace oxmem::link
