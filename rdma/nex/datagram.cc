#include "rdma/nex/datagram.h"

#include <endian.h>
#include <errno.h>

#include <algorithm>
#include <cstring>

#include "rdma/nex/program_memory.h"

namespace oxmem::nex {
namespace {

bool IsV4(const DatagramHeader& header) {
  return header.destination_gid[10] == 0xff && header.destination_gid[0] == 0;
}

// Where InfiniBand has the service level of a packet, devices tell programs (UCX asks) which of
// the headers below it came with: bit 3 for UDP, then 1 for IPv6 or 2 for IPv4.
std::uint8_t HeaderKind(const DatagramHeader& header) {
  return header.has_grh ? 8 | (IsV4(header) ? 2 : 1) : 0;
}

// The 40 bytes in front of a received datagram, in the two forms of RoCE v2: an IPv6 header is
// a GRH; an IPv4 header fills the last 20 bytes.
void WriteGrh(const DatagramHeader& header, std::size_t payload, std::byte* out) {
  std::memset(out, 0, kGrhBytes);
  if (!header.has_grh) return;
  auto* bytes = reinterpret_cast<std::uint8_t*>(out);
  const auto length = static_cast<std::uint16_t>(payload + 8);
  if (IsV4(header)) {
    std::uint8_t* ip = bytes + 20;
    const auto total = static_cast<std::uint16_t>(length + 20);
    ip[0] = 0x45;
    ip[2] = static_cast<std::uint8_t>(total >> 8);
    ip[3] = static_cast<std::uint8_t>(total);
    ip[8] = 64;
    ip[9] = 17;
    std::memcpy(ip + 12, header.source_gid.data() + 12, 4);
    std::memcpy(ip + 16, header.destination_gid.data() + 12, 4);
    std::uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2) sum += static_cast<std::uint32_t>(ip[i] << 8 | ip[i + 1]);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ip[10] = static_cast<std::uint8_t>(~sum >> 8);
    ip[11] = static_cast<std::uint8_t>(~sum);
    return;
  }
  bytes[0] = 0x60;
  bytes[4] = static_cast<std::uint8_t>(length >> 8);
  bytes[5] = static_cast<std::uint8_t>(length);
  bytes[6] = 17;
  bytes[7] = 64;
  std::memcpy(bytes + 8, header.source_gid.data(), 16);
  std::memcpy(bytes + 24, header.destination_gid.data(), 16);
}

}  // namespace

void DatagramQp::Complete(const ibv_send_wr& wr, std::uint32_t length, ibv_wc_status status) {
  if (status == IBV_WC_SUCCESS && !identity_.signal_all &&
      (wr.send_flags & IBV_SEND_SIGNALED) == 0) {
    return;
  }
  Completion done;
  done.wc.wr_id = wr.wr_id;
  done.wc.status = status;
  done.wc.opcode = IBV_WC_SEND;
  done.wc.byte_len = length;
  done.wc.qp_num = identity_.qpn;
  completions_.push_back(done);
}

int DatagramQp::Check(const ibv_send_wr& wr) const {
  if (wr.opcode != IBV_WR_SEND && wr.opcode != IBV_WR_SEND_WITH_IMM) return EINVAL;
  if (wr.num_sge < 0 || wr.num_sge > identity_.max_send_sges) return EINVAL;
  if (wr.num_sge > 0 && wr.sg_list == nullptr) return EINVAL;
  const Payload payload{.sges = wr.sg_list, .count = wr.num_sge};
  const bool copied = (wr.send_flags & IBV_SEND_INLINE) != 0;
  return copied && PayloadLength(payload) > identity_.max_inline ? EINVAL : 0;
}

void DatagramQp::Post(const ibv_send_wr& wr, RegionTable& regions, const Route& route,
                      Packet* packet) {
  packet->pieces.Release();
  const bool copied = (wr.send_flags & IBV_SEND_INLINE) != 0;
  Payload payload{.sges = wr.sg_list,
                  .count = wr.num_sge,
                  .use = RegionUse::kLocal,
                  .domain = identity_.domain,
                  .qpn = identity_.qpn};
  const std::uint64_t length = PayloadLength(payload);
  if (length > kMaxDatagramBytes) {
    Complete(wr, 0, IBV_WC_LOC_LEN_ERR);
    send_failed_ = true;
    return;
  }
  if (copied) {
    std::size_t at = 0;
    for (int i = 0; i < wr.num_sge; ++i) {
      if (wr.sg_list[i].length == 0) continue;
      std::memcpy(inline_.data() + at, reinterpret_cast<const void*>(wr.sg_list[i].addr),
                  wr.sg_list[i].length);
      at += wr.sg_list[i].length;
    }
    payload.copy = inline_.data();
  }
  DatagramHeader header;
  header.source_qpn = identity_.qpn;
  header.destination_qpn = wr.wr.ud.remote_qpn;
  header.queue_key = wr.wr.ud.remote_qkey;
  header.flags = (wr.send_flags & IBV_SEND_SOLICITED) != 0 ? kFlagSolicited : 0;
  header.has_immediate = wr.opcode == IBV_WR_SEND_WITH_IMM;
  header.immediate = header.has_immediate ? be32toh(wr.imm_data) : 0;
  header.has_grh = route.global;
  header.source_gid = route.source;
  header.destination_gid = route.destination;
  EncodeDatagram(header, packet->header);
  packet->pieces.Add(packet->header.data(), packet->header.size());
  if (MapPayload(regions, payload, 0, length, &packet->pieces) != MapResult::kOk) {
    packet->pieces.Release();
    Complete(wr, 0, IBV_WC_LOC_PROT_ERR);
    send_failed_ = true;
  }
}

ibv_send_wr DatagramQp::Held::request() {
  wr.sg_list = sges.data();
  return wr;
}

void DatagramQp::Hold(const ibv_send_wr& wr, const Route& route) {
  Held& held = held_.emplace_back();
  held.wr = wr;
  held.wr.next = nullptr;
  held.route = route;
  held.sges.assign(wr.sg_list, wr.sg_list + wr.num_sge);
  if ((wr.send_flags & IBV_SEND_INLINE) == 0) return;
  for (const ibv_sge& sge : held.sges) {
    const auto* bytes = reinterpret_cast<const std::byte*>(sge.addr);
    if (sge.length != 0) held.copy.insert(held.copy.end(), bytes, bytes + sge.length);
  }
  held.wr.num_sge = 1;
  held.sges.assign(1, {.addr = reinterpret_cast<std::uintptr_t>(held.copy.data()),
                       .length = static_cast<std::uint32_t>(held.copy.size()),
                       .lkey = 0});
}

bool DatagramQp::TakeHeld(Held* held) {
  if (held_.empty()) return false;
  *held = std::move(held_.front());
  held_.pop_front();
  return true;
}

DatagramFate DatagramQp::OnPacket(const DatagramHeader& header, std::span<const std::byte> bytes,
                                  std::uint32_t queue_key, RegionTable& regions,
                                  ReceiveSource& receives) {
  if (bytes.size() > kMaxDatagramBytes) return DatagramFate::kMalformed;
  if (header.queue_key != queue_key) return DatagramFate::kWrongKey;
  ReceiveWork work;
  if (!receives.Take(&work)) return DatagramFate::kNoReceive;
  const Payload payload{.sges = work.sges.data(),
                        .count = work.sge_count,
                        .use = RegionUse::kLocal,
                        .access = IBV_ACCESS_LOCAL_WRITE,
                        .domain = work.domain,
                        .qpn = identity_.qpn};
  Completion done;
  done.receive = true;
  done.source = &receives;
  done.solicited = (header.flags & kFlagSolicited) != 0;
  ibv_wc& wc = done.wc;
  wc.wr_id = work.wr_id;
  wc.opcode = IBV_WC_RECV;
  wc.qp_num = identity_.qpn;
  wc.src_qp = header.source_qpn;
  wc.byte_len = static_cast<std::uint32_t>(kGrhBytes + bytes.size());
  wc.slid = LidOf(header.source_gid);
  wc.sl = HeaderKind(header);
  if (header.has_grh) wc.wc_flags |= IBV_WC_GRH;
  if (header.has_immediate) {
    wc.wc_flags |= IBV_WC_WITH_IMM;
    wc.imm_data = htobe32(header.immediate);
  }
  std::array<std::byte, kGrhBytes> grh;
  WriteGrh(header, bytes.size(), grh.data());
  IoBatch front, rest;
  if (PayloadLength(payload) < wc.byte_len) {
    wc.status = IBV_WC_LOC_LEN_ERR;
  } else if (MapPayload(regions, payload, 0, kGrhBytes, &front) != MapResult::kOk ||
             MapPayload(regions, payload, kGrhBytes, bytes.size(), &rest) != MapResult::kOk) {
    wc.status = IBV_WC_LOC_PROT_ERR;
  } else if (!CopyToProgram(front, grh) || !CopyToProgram(rest, bytes)) {
    wc.status = IBV_WC_LOC_PROT_ERR;
  }
  front.Release();
  rest.Release();
  receive_failed_ = receive_failed_ || wc.status != IBV_WC_SUCCESS;
  completions_.push_back(done);
  return DatagramFate::kReceived;
}

void DatagramQp::AddGroup(const Gid& group) { groups_.push_back(group); }

bool DatagramQp::RemoveGroup(const Gid& group) {
  const auto found = std::find(groups_.begin(), groups_.end(), group);
  if (found == groups_.end()) return false;
  groups_.erase(found);
  return true;
}

bool DatagramQp::InGroup(const Gid& group) const {
  return std::find(groups_.begin(), groups_.end(), group) != groups_.end();
}

}  // namespace oxmem::nex
