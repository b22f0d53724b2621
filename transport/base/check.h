#ifndef TRANSPORT_BASE_CHECK_H_
#define TRANSPORT_BASE_CHECK_H_

namespace oxmem::internal {
[[noreturn]] void CheckFailed(const char* expression, const char* file, int line);
}  // namespace oxmem::internal

// A broken invariant of ours stops the program, in release builds too. Never for input from
// outside.
#define OXMEM_CHECK(condition)                       \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::oxmem::internal::CheckFailed(#condition, __FILE__, __LINE__))

#endif  // TRANSPORT_BASE_CHECK_H_
