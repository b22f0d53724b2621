#include "rdma/nex/preload/real.h"

#include <dlfcn.h>

#include "transport/base/check.h"

namespace oxmem::nex {

void* RealSymbol(const char* name) {
  void* symbol = dlsym(RTLD_NEXT, name);
  OXMEM_CHECK(symbol != nullptr);
  return symbol;
}

}  // namespace oxmem::nex
