// For programs that are linked with the library. The thread sanitizer has an fstat of its own that
// goes past the library, which has to say that the file of its connection manager is a device.
#include <dlfcn.h>
#include <sys/stat.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
extern "C" int fstat(int fd, struct stat* out) {
  using Fstat = int (*)(int, struct stat*);
  static const auto next = reinterpret_cast<Fstat>(dlsym(RTLD_NEXT, "fstat"));
  return next(fd, out);
}

// It sets its handlers with the library's sigaction, which is instrumented, before it is ready.
extern "C" const char* __tsan_default_options() {
  return "handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:handle_sigtrap=0";
}
#endif
#endif
