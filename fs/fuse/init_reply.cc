#include "fs/fuse/init_reply.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "fs/fuse/libfuse_passthrough.h"

namespace oxmem::fs {
namespace {

constexpr std::size_t kOldRequestBytes = offsetof(fuse_init_in, flags2);

}  // namespace

absl::StatusOr<InitReply> InitReply::FromRequest(std::span<const std::byte> request) {
  fuse_in_header header;
  if (request.size() < sizeof header + kOldRequestBytes) {
    return absl::InternalError(
        absl::StrCat("the kernel's first FUSE request has only ", request.size(), " bytes"));
  }
  std::memcpy(&header, request.data(), sizeof header);
  if (header.opcode != FUSE_INIT) {
    return absl::InternalError(
        absl::StrCat("the kernel's first FUSE request is of type ", header.opcode));
  }
  fuse_init_in init{};
  std::memcpy(&init, request.data() + sizeof header,
              std::min(sizeof init, request.size() - sizeof header));
  InitReply reply;
  reply.offered_ = init.flags;
  reply.offered2_ = (init.flags & FUSE_INIT_EXT) != 0 ? init.flags2 : 0;
  return reply;
}

bool InitReply::Extend(std::span<std::byte> answer) const {
  fuse_init_out init;
  if (answer.size() != sizeof init) return false;
  std::memcpy(&init, answer.data(), sizeof init);
  // Without it the kernel asks for security.capability before every buffered write.
  init.flags |= offered_ & FUSE_HANDLE_KILLPRIV_V2;
  const uint32_t wanted = kernel::kFlags2Passthrough | kernel::kFlags2DirectIoAllowMmap;
  const bool ask = !kLibfuseHasPassthrough && (offered2_ & wanted) != 0;
  if (ask) {
    init.flags |= FUSE_INIT_EXT;
    init.flags2 |= offered2_ & wanted;
  }
  std::memcpy(answer.data(), &init, sizeof init);
  if (ask && kernel_has_passthrough()) {
    const uint32_t stack_depth = 1;
    std::memcpy(answer.data() + kernel::kMaxStackDepthOffset, &stack_depth, sizeof stack_depth);
  }
  return true;
}

}  // namespace oxmem::fs
