// What the sanitizers have to be told in programs that are linked with the library.
#include <dlfcn.h>
#include <sys/stat.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

#if __has_feature(thread_sanitizer)
// It has an fstat of its own that goes past the library, which has to say that the file of its
// connection manager is a device.
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

#if __has_feature(address_sanitizer)
// librdmacm loses an event's memory when the thread that waits for it is cancelled, and that of a
// group that is not left before its identifier goes.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:librdmacm.so\n";  // its own functions have no names
}
#endif
