// Sanitizers bring operators of their own, and say what is allocated.
#include <sanitizer/allocator_interface.h>

#include <atomic>

#include "tests/oxmem/tloe/counting_new.h"

namespace {

std::atomic<long> allocations{0};

const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { allocations.fetch_add(1, std::memory_order_relaxed); },
    [](const volatile void*) {});

}  // namespace

long oxmem::test::Allocations() {
  return installed == 0 ? -1 : allocations.load(std::memory_order_relaxed);
}
