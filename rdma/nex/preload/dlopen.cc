// Programs that load libibverbs at run time get this library, whose dependency the real one is.
#include <dlfcn.h>

#include <cstring>

#include "rdma/nex/preload/real.h"

NEX_EXPORT void* dlopen(const char* name, int flags) noexcept {
  using Dlopen = void* (*)(const char*, int);
  static const auto real = reinterpret_cast<Dlopen>(oxmem::nex::RealSymbol("dlopen"));
  if (name != nullptr &&
      (std::strcmp(name, "libibverbs.so.1") == 0 || std::strcmp(name, "libibverbs.so") == 0)) {
    Dl_info self;
    if (dladdr(reinterpret_cast<const void*>(&dlopen), &self) != 0) {
      return real(self.dli_fname, flags);
    }
  }
  return real(name, flags);
}
