#include "oxmem/tilelink/swap_copy.h"

#include <cstdint>
#include <cstring>

#include "transport/base/byte_order.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace oxmem::tilelink {
namespace {

// Word by word; compilers turn it into vector code where the base architecture has byte shuffles.
void SwapWords(const std::byte* from, std::byte* to, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 8) {
    uint64_t word;
    std::memcpy(&word, from + i, sizeof word);
    word = ByteSwap(word);
    std::memcpy(to + i, &word, sizeof word);
  }
}

#if defined(__x86_64__)

// The base of x86-64 has no byte shuffle, so it is asked for at run time.
__attribute__((target("avx2"))) void SwapAvx2(const std::byte* from, std::byte* to,
                                              std::size_t bytes) {
  const __m256i reverse = _mm256_setr_epi8(7, 6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8, 7,
                                           6, 5, 4, 3, 2, 1, 0, 15, 14, 13, 12, 11, 10, 9, 8);
  std::size_t i = 0;
  for (; i + 64 <= bytes; i += 64) {
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i + 32));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i), _mm256_shuffle_epi8(low, reverse));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + i + 32),
                        _mm256_shuffle_epi8(high, reverse));
  }
  SwapWords(from + i, to + i, bytes - i);
}

const bool kHasAvx2 = __builtin_cpu_supports("avx2") != 0;

#endif

}  // namespace

void SwapCopy(const std::byte* from, std::byte* to, std::size_t bytes) {
#if defined(__x86_64__)
  // Short ones are not worth the call.
  if (bytes >= 64 && kHasAvx2) {
    SwapAvx2(from, to, bytes);
    return;
  }
#endif
  SwapWords(from, to, bytes);
}

}  // namespace oxmem::tilelink
