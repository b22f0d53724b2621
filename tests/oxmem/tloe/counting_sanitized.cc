// Sanitizers bring operators of their own, and say what is allocated.
#include <atomic>
#include <cstddef>

#include "tests/oxmem/tloe/counting_new.h"

// As in sanitizer/allocator_interface.h, which GCC does not bring.
extern "C" int __sanitizer_install_malloc_and_free_hooks(
    void (*on_malloc)(const volatile void*, std::size_t), void (*on_free)(const volatile void*));

namespace {

std::atomic<long> allocations{0};

const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { allocations.fetch_add(1, std::memory_order_relaxed); },
    [](const volatile void*) {});

}  // namespace

long oxmem::test::Allocations() {
  return installed == 0 ? -1 : allocations.load(std::memory_order_relaxed);
}
