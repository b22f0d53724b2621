#ifndef OXMEM_TILELINK_SWAP_COPY_H_
#define OXMEM_TILELINK_SWAP_COPY_H_

#include <cstddef>

namespace oxmem::tilelink {

// Copies `bytes` bytes, a multiple of 8, with every eight of them reversed. The ranges do not
// overlap. Uses the widest instructions the processor has.
void SwapCopy(const std::byte* from, std::byte* to, std::size_t bytes);

}  // namespace oxmem::tilelink

#endif  // OXMEM_TILELINK_SWAP_COPY_H_
