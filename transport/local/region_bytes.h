#ifndef TRANSPORT_LOCAL_REGION_BYTES_H_
#define TRANSPORT_LOCAL_REGION_BYTES_H_

#include <cstddef>
#include <span>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define OXMEM_THREAD_SANITIZER 1
extern "C" void AnnotateBenignRaceSized(const char* file, int line, const volatile void* address,
                                        std::size_t size, const char* why);
#endif
#endif

namespace oxmem::transport {

// What two requests do to the same bytes of a region is ordered by whoever asked for them, in other
// processes and on other hosts, where the thread sanitizer does not see it. It is told so, of these
// bytes alone: the buffers of the requests stay in its sight.
inline void OrderedByOthers(std::span<std::byte> region) {
#ifdef OXMEM_THREAD_SANITIZER
  AnnotateBenignRaceSized(__FILE__, __LINE__, region.data(), region.size(), "bytes of a region");
#else
  static_cast<void>(region);
#endif
}

}  // namespace oxmem::transport

#endif  // TRANSPORT_LOCAL_REGION_BYTES_H_
