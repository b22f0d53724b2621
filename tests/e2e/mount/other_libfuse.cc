// Preloaded, it makes a program one whose libfuse agrees on less with the kernel than that of the
// others: no asynchronous reads.
#include <dlfcn.h>

#include "fs/fuse/libfuse.h"

namespace {

void (*real_init)(void*, fuse_conn_info*) = nullptr;

void OtherInit(void* own, fuse_conn_info* connection) {
  real_init(own, connection);
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_ASYNC_READ);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) fuse_session* fuse_session_new(
    fuse_args* arguments, const fuse_lowlevel_ops* operations, size_t size, void* own) {
  using New = fuse_session* (*)(fuse_args*, const fuse_lowlevel_ops*, size_t, void*);
  static const auto real_new = reinterpret_cast<New>(dlsym(RTLD_NEXT, "fuse_session_new"));
  fuse_lowlevel_ops other = *operations;
  real_init = other.init;
  other.init = OtherInit;
  return real_new(arguments, &other, size, own);
}
