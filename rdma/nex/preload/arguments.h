#ifndef RDMA_NEX_PRELOAD_ARGUMENTS_H_
#define RDMA_NEX_PRELOAD_ARGUMENTS_H_

#include "rdma/nex/debug.h"

// In an exported verb: without this argument it says so, sets errno to EINVAL and returns `result`.
// Nobody knows whose device a handle of nothing is, so it never reaches the real library.
#define NEX_REFUSE_NULL(argument, result) \
  if (::oxmem::nex::IsNull(argument, __func__, #argument)) return result

#endif  // RDMA_NEX_PRELOAD_ARGUMENTS_H_
