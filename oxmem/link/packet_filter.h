#ifndef OXMEM_LINK_PACKET_FILTER_H_
#define OXMEM_LINK_PACKET_FILTER_H_

#include <linux/filter.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "oxmem/link/mac_address.h"
#include "transport/base/byte_order.h"
#include "transport/base/status.h"

namespace oxmem::link {

// A classic BPF program that lets a frame through when every added condition holds.
class PacketFilter {
 public:
  void RequireHalf(uint32_t offset, uint32_t value) { Require(BPF_H, offset, value); }
  void RequireWord(uint32_t offset, uint32_t value) { Require(BPF_W, offset, value); }
  void RequireMac(uint32_t offset, const MacAddress& mac) {
    const auto* bytes = reinterpret_cast<const std::byte*>(mac.bytes.data());
    RequireWord(offset, LoadBigEndian<uint32_t>(bytes));
    RequireHalf(offset + 4, LoadBigEndian<uint16_t>(bytes + 4));
  }
  void RequireTopBits(uint32_t offset, uint32_t shift, uint32_t value) {
    code_.push_back(BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offset));
    code_.push_back(BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, shift));
    Compare(value);
  }
  // Of the byte at `offset`, these bits are all zero.
  void RequireClear(uint32_t offset, uint32_t bits) {
    code_.push_back(BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offset));
    code_.push_back(BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits));
    Compare(0);
  }
  void RequireKind(uint32_t kind) {
    Require(BPF_W, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_PKTTYPE), kind);
  }

  absl::Status Attach(int fd) {
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, UINT32_MAX));
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, 0));
    const std::size_t refuse = code_.size() - 1;
    for (const std::size_t at : comparisons_) {
      code_[at].jf = static_cast<uint8_t>(refuse - at - 1);
    }
    const sock_fprog program = {static_cast<unsigned short>(code_.size()), code_.data()};
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0) {
      return ErrnoStatus(errno, "attaching the packet filter");
    }
    return absl::OkStatus();
  }

 private:
  void Require(uint16_t width, uint32_t offset, uint32_t value) {
    code_.push_back(BPF_STMT(static_cast<uint16_t>(BPF_LD | width | BPF_ABS), offset));
    Compare(value);
  }
  void Compare(uint32_t value) {
    comparisons_.push_back(code_.size());
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 0));
  }

  std::vector<sock_filter> code_;
  std::vector<std::size_t> comparisons_;
};

}  // namespace oxmem::link

#endif  // OXMEM_LINK_PACKET_FILTER_H_
