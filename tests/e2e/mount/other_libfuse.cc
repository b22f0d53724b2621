// Preloaded, it makes a program one whose libfuse agrees on less with the kernel than that of the
// others: no asynchronous reads.
#include <dlfcn.h>

#include "fs/fuse/libfuse.h"

namespace {

void (*real_init)(void*, fuse_conn_info*) = nullptr;

void OtherInit(void* own, fuse_conn_info* connection) {
  real_init(own, connection);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
  fuse_unset_feature_flag(connection, FUSE_CAP_ASYNC_READ);
#else
  connection->want &= ~static_cast<unsigned>(FUSE_CAP_ASYNC_READ);
#endif
}

fuse_lowlevel_ops Other(const fuse_lowlevel_ops& operations) {
  fuse_lowlevel_ops other = operations;
  real_init = other.init;
  other.init = OtherInit;
  return other;
}

}  // namespace

// The function that programs call, which their header gives a version of its own since 3.17.
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
extern "C" __attribute__((visibility("default"))) fuse_session* fuse_session_new_versioned(
    fuse_args* arguments, const fuse_lowlevel_ops* operations, size_t size,
    libfuse_version* version, void* own) {
  static const auto real_new = reinterpret_cast<decltype(&fuse_session_new_versioned)>(
      dlsym(RTLD_NEXT, "fuse_session_new_versioned"));
  const fuse_lowlevel_ops other = Other(*operations);
  return real_new(arguments, &other, size, version, own);
}
#else
extern "C" __attribute__((visibility("default"))) fuse_session* fuse_session_new(
    fuse_args* arguments, const fuse_lowlevel_ops* operations, size_t size, void* own) {
  static const auto real_new =
      reinterpret_cast<decltype(&fuse_session_new)>(dlsym(RTLD_NEXT, "fuse_session_new"));
  const fuse_lowlevel_ops other = Other(*operations);
  return real_new(arguments, &other, size, own);
}
#endif
