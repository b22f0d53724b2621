#ifndef FS_FUSE_LIBFUSE_PASSTHROUGH_H_
#define FS_FUSE_LIBFUSE_PASSTHROUGH_H_

#include <cstdint>

#include "fs/fuse/libfuse.h"

namespace oxmem::fs {

// Passthrough as libfuse has it from 3.17 on, and what stands for it before: there InitReply asks
// the kernel for it, and an open is answered with the kernel's own words.

extern const bool kLibfuseHasPassthrough;

// In the handler of FUSE_INIT.
void WantPassthrough(fuse_conn_info* connection);

void ReplyPassthroughOpen(fuse_req_t request, int32_t backing_id);

}  // namespace oxmem::fs

#endif  // FS_FUSE_LIBFUSE_PASSTHROUGH_H_
