// Programs that load libibverbs at run time get this library, whose dependency the real one is.
#include <dlfcn.h>

#include <cstring>

#include "rdma/nex/preload/real.h"

namespace {

using Dlopen = void* (*)(const char*, int) noexcept;

[[gnu::noinline]] Dlopen Real() {
  static const auto real = reinterpret_cast<Dlopen>(oxmem::nex::RealSymbol("dlopen"));
  return real;
}

bool IsVerbsLibrary(const char* name) {
  if (name == nullptr) return false;
  const char* slash = std::strrchr(name, '/');
  const char* file = slash == nullptr ? name : slash + 1;
  return std::strcmp(file, "libibverbs.so.1") == 0 || std::strcmp(file, "libibverbs.so") == 0;
}

// What dlopen is to load; the answer lives as long as the library.
[[gnu::noinline]] const char* Replaced(const char* name) {
  if (!IsVerbsLibrary(name)) return name;
  Dl_info self;
  return dladdr(reinterpret_cast<const void*>(&dlopen), &self) != 0 ? self.dli_fname : name;
}

}  // namespace

// The C library looks at the return address to know whose search path counts, so this has to leave
// with a jump. An optimising compiler does that where nothing of this frame is in use any more,
// which is why the rest is in functions of its own.
NEX_EXPORT void* dlopen(const char* name, int flags) noexcept {
  const Dlopen real = Real();
  return real(Replaced(name), flags);
}
