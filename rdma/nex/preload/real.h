#ifndef RDMA_NEX_PRELOAD_REAL_H_
#define RDMA_NEX_PRELOAD_REAL_H_

// The functions behind the names that this library exports too.
#define NEX_EXPORT extern "C" __attribute__((visibility("default")))

namespace oxmem::nex {

// The next definition of a symbol after this library; stops the program when there is none.
void* RealSymbol(const char* name);

}  // namespace oxmem::nex

#define NEX_REAL(name)                                                        \
  ([] {                                                                       \
    static const auto nex_next =                                              \
        reinterpret_cast<decltype(&::name)>(::oxmem::nex::RealSymbol(#name)); \
    return nex_next;                                                          \
  }())

#endif  // RDMA_NEX_PRELOAD_REAL_H_
