#ifndef FS_FUSE_LIBFUSE_H_
#define FS_FUSE_LIBFUSE_H_

// libfuse's low-level interface, with the one version of it that everything here is written to.
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#endif  // FS_FUSE_LIBFUSE_H_
