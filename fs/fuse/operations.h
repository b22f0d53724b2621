#ifndef FS_FUSE_OPERATIONS_H_
#define FS_FUSE_OPERATIONS_H_

#include "fs/fuse/libfuse.h"

namespace oxmem::fs {

// libfuse's table of our operations. The session's user data is the Reactor that it belongs to.
const fuse_lowlevel_ops& FuseOperations();

}  // namespace oxmem::fs

#endif  // FS_FUSE_OPERATIONS_H_
