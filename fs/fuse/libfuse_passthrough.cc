#include "fs/fuse/libfuse_passthrough.h"

#include "fs/fuse/kernel_abi.h"

namespace oxmem::fs {

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)

const bool kLibfuseHasPassthrough = true;

void WantPassthrough(fuse_conn_info* connection) {
  connection->want |= connection->capable & (FUSE_CAP_PASSTHROUGH | FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
  connection->max_backing_stack_depth = FUSE_BACKING_STACKED_UNDER;
}

void ReplyPassthroughOpen(fuse_req_t request, int32_t backing_id) {
  fuse_file_info file{};
  file.backing_id = backing_id;
  fuse_reply_open(request, &file);
}

#else

const bool kLibfuseHasPassthrough = false;

void WantPassthrough(fuse_conn_info*) {}

void ReplyPassthroughOpen(fuse_req_t request, int32_t backing_id) {
  kernel::OpenOut answer{};
  answer.open_flags = kernel::kOpenPassthrough;
  answer.backing_id = backing_id;
  fuse_reply_buf(request, reinterpret_cast<const char*>(&answer), sizeof answer);
}

#endif

}  // namespace oxmem::fs
