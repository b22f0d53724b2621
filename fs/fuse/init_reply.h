#ifndef FS_FUSE_INIT_REPLY_H_
#define FS_FUSE_INIT_REPLY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "fs/fuse/kernel_abi.h"

namespace oxmem::fs {

// What both sides of a mount agree on in FUSE_INIT beyond what libfuse knows: it writes an answer
// for the kernel it was made for, and this adds the flags of a newer one. This and
// libfuse_passthrough.h are the places that depend on libfuse's age.
class InitReply {
 public:
  // What the kernel offered, from its FUSE_INIT request; the error says what is wrong with it.
  static absl::StatusOr<InitReply> FromRequest(std::span<const std::byte> request);

  bool kernel_has_passthrough() const { return (offered2_ & kernel::kFlags2Passthrough) != 0; }

  // Whether it gives requests again that a process took and died with.
  bool kernel_has_resend() const { return (offered2_ & kernel::kFlags2HasResend) != 0; }

  // Changes libfuse's answer in place, if it is one that succeeded. True if it did.
  bool Extend(std::span<std::byte> answer) const;

 private:
  uint32_t offered_ = 0;
  uint32_t offered2_ = 0;
};

}  // namespace oxmem::fs

#endif  // FS_FUSE_INIT_REPLY_H_
